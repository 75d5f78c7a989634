"""The whole model, and the one form of its score.

    score(t, i) = h_t·e_i + γ_a · h_t·z_ti + γ_m · (Σ_k w_k(i) · LN(o_k(t, i)))·e_i

Letters in shapes: B rows, T positions of a row, P chosen positions, C candidates, M memory
entries, D dimensions, I items. Item 0 is padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedmem.model.backbone import SASRec
from fedmem.model.content import AlignGating, zero_projector
from fedmem.model.experts import AXES, MemoryExpert, Router, spread
from fedmem.settings import ModelSettings
from fedmem.stages import Stage


@dataclass(frozen=True)
class Content:
    """Frozen content of all items; row 0 is padding, a row of zeros is a missing modality."""

    visual: Tensor
    """[I + 1, V]"""
    text: Tensor
    """[I + 1, S]"""

    @property
    def present(self) -> Tensor:
        """[I + 1, 2]: whether the item has a picture, and a text."""
        return torch.stack([self.visual.any(1), self.text.any(1)], dim=1)


@dataclass(frozen=True)
class Memories:
    """What the users' memories held just before each chosen position."""

    items: Tensor
    """[B, P, M] item ids"""
    mask: Tensor
    """[B, P, M], true at real entries"""


@dataclass(frozen=True)
class Projected:
    """All items in the content space, for one forward pass."""

    visual: Tensor
    """[I + 1, D]"""
    text: Tensor
    """[I + 1, D]"""
    gate: Tensor
    """[I + 1, G], the item's part of the gating's first layer"""
    present: Tensor
    """[I + 1, 2]"""


class GatingWeight(nn.Module):
    """γ: how much content and memory count beside the sequence. Memory starts at exactly 0."""

    def __init__(self) -> None:
        super().__init__()
        self.content = nn.Parameter(torch.ones(()))
        self.memory = nn.Parameter(torch.zeros(()))


class Recommender(nn.Module):
    """The model of one stage: it holds the modules that the stage's graph has, and no others.

    Args:
        settings: sizes.
        stage: which modules.
        num_items: items without the padding.
        content: required where the stage uses content.
    """

    def __init__(
        self, settings: ModelSettings, stage: Stage, num_items: int, content: Content | None
    ) -> None:
        super().__init__()
        dim = settings.dim
        self.stage = stage
        self.sasrec = SASRec(settings, num_items)
        self.experts: list[str] = []
        if stage.content:
            if content is None:
                raise ValueError(f"{stage.name} needs the items' content")
            self.register_buffer("visual", content.visual, persistent=False)
            self.register_buffer("text", content.text, persistent=False)
            self.present: Tensor
            self.register_buffer("present", content.present, persistent=False)
            self.visual_proj = zero_projector(content.visual.shape[1], dim)
            self.text_proj = zero_projector(content.text.shape[1], dim)
            self.align_gating = AlignGating(settings)
            self.gating_weight = GatingWeight()
        if stage.memory:
            self.experts = list(settings.experts)
            heads = {"visual": 1, "semantic": settings.semantic_heads, "identity": 1}
            for name in self.experts:
                self.add_module(f"{name}_expert", MemoryExpert(dim, heads[name]))
            self.router = Router(dim, settings.router_hidden, len(self.experts))

    def project(self) -> Projected:
        """All items' content in the space of the ID embeddings."""
        visual = self.visual_proj(self.visual)  # [I + 1, D]
        text = self.text_proj(self.text)  # [I + 1, D]
        return Projected(visual, text, self.align_gating.item_part(visual, text), self.present)

    def score(
        self,
        hidden: Tensor,
        candidates: Tensor,
        memories: Memories | None = None,
        projected: Projected | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """Scores [B, P, C] of candidates at positions, in the form of the stage.

        Args:
            hidden: [B, P, D] hidden states.
            candidates: item ids: [C] shared by all, [B, C] by a row's positions, or [B, P, C].
            memories: required where the stage reads the memory.
            projected: required where the stage uses content.
            keep: [B, P, G] dropout factors for the gating, or none.
        """
        axes = AXES[candidates.dim()]
        embedded = self.sasrec.item_emb(candidates)  # [(B, P,) C, D]
        score = torch.einsum(f"bpd,{axes}d->bpc", hidden, embedded)
        if projected is not None:
            weights = self.modality_weights(hidden, candidates, projected, keep)
            by_visual = torch.einsum(
                f"bpd,{axes}d->bpc", hidden, F.embedding(candidates, projected.visual)
            )
            by_text = torch.einsum(
                f"bpd,{axes}d->bpc", hidden, F.embedding(candidates, projected.text)
            )
            by_content = weights[..., 0] * by_visual + weights[..., 1] * by_text
            score = score + self.gating_weight.content * by_content
        if projected is not None and memories is not None:
            routed = spread(self.router(embedded), candidates.dim())  # [B|1, P|1, C, E]
            by_memory = torch.zeros_like(score)
            for k, name in enumerate(self.experts):
                read = self.read(name, candidates, memories, projected)  # [B, P, C, D]
                by_memory = by_memory + routed[..., k] * torch.einsum(
                    f"bpcd,{axes}d->bpc", read, embedded
                )
            score = score + self.gating_weight.memory * by_memory
        return score

    def modality_weights(
        self, hidden: Tensor, candidates: Tensor, projected: Projected, keep: Tensor | None
    ) -> Tensor:
        """The gating's weights [B, P, C, 2] of picture and text."""
        rank = candidates.dim()
        weights: Tensor = self.align_gating(
            self.align_gating.position_part(hidden),
            spread(F.embedding(candidates, projected.gate), rank),
            spread(projected.present[candidates], rank),
            keep,
        )
        return weights

    def content_embedding(
        self, hidden: Tensor, items: Tensor, projected: Projected, keep: Tensor | None = None
    ) -> Tensor:
        """z_ti [B, P, D] of one item a position, items [B, P]."""
        weights = self.modality_weights(hidden, items.unsqueeze(2), projected, keep)[:, :, 0]
        visual = F.embedding(items, projected.visual)
        return weights[..., :1] * visual + weights[..., 1:] * F.embedding(items, projected.text)

    def read(
        self, expert: str, candidates: Tensor, memories: Memories, projected: Projected
    ) -> Tensor:
        """What one expert reads in the memories for each candidate: [B, P, C, D]."""
        spaces = {
            "visual": (projected.visual, projected.visual),
            "semantic": (self.sasrec.item_emb.weight, projected.text),
            "identity": (self.sasrec.item_emb.weight, self.sasrec.item_emb.weight),
        }
        queries, entries = spaces[expert]
        module: MemoryExpert = self.get_submodule(f"{expert}_expert")  # type: ignore[assignment]
        out: Tensor = module(queries, entries, candidates, memories.items, memories.mask)
        return out
