"""The whole model, and the one form of its score.

    score(t, i) = h_t·e_i + γ_a · h_t·z_ti + γ_m · (Σ_k w_k(i) · LN(o_k(t, i)))·e_i

Letters in shapes: B rows, T positions of a row, P chosen positions, C candidates, M memory
entries, D dimensions, I items. Item 0 is padding. Inside, positions that share their candidates are
put side by side: X groups of Y positions, each group with C candidates of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fedmem.core.arrays import Ints
from fedmem.core.model.backbone import SASRec
from fedmem.core.model.content import AlignGating, Content, leanings, zero_projector
from fedmem.core.model.experts import ExpertTables, MemoryExpert, Router
from fedmem.core.model.projected_items import ProjectedItems
from fedmem.core.model.rows import Rows, look_up
from fedmem.core.settings import ModelSettings
from fedmem.core.stages import Stage


@dataclass(frozen=True)
class ItemTables:
    """All that the score needs of the items alone, besides their ID embeddings.

    It is the same for all users, so a round computes it once. `leaves` cuts it from its graph: the
    gradients of many batches gather there, and `backward` sends them on at once.
    """

    visual: Tensor
    """[I + 1, D] P_v v"""
    text: Tensor
    """[I + 1, D] P_t t"""
    gate: Tensor
    """[I + 1, G] the item's part of the gating's first layer"""
    products: Tensor
    """[I + 1, 6] v·v, v·t, t·t, v·e, t·e and e·e, of the two rows above and the ID embedding"""
    routed: Tensor | None
    """[I + 1, E] the router's weights"""
    experts: dict[str, ExpertTables]

    def tensors(self) -> list[Tensor]:
        """All tables in a fixed order."""
        every = [self, *self.experts.values()]
        return [x for tables in every for x in vars(tables).values() if isinstance(x, Tensor)]

    def content(self, lean: Tensor) -> Tensor:
        """z̄ [I + 1, D]: z with picture and text weighed alike, but for items that lean [I + 1]."""
        picture = torch.sigmoid(lean).unsqueeze(1)
        return picture * self.visual + (1 - picture) * self.text

    def content_products(self, items: Tensor, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """|z|², z·e and |e|², each [...], of items [...] whose picture has these weights [...].

        Inner products of z = a·P_v v + (1 − a)·P_t t follow from those of its parts, so that z
        itself is never formed.
        """
        vv, vt, tt, ve, te, ee = look_up(self.products, items).unbind(-1)
        a, b = picture, 1 - picture
        return a * a * vv + 2 * a * b * vt + b * b * tt, a * ve + b * te, ee

    def leaves(self) -> ItemTables:
        """The same values, without the graph behind them."""

        def leaves_of(tables: ItemTables | ExpertTables) -> dict[str, Any]:
            own = {name: x for name, x in vars(tables).items() if isinstance(x, Tensor)}
            return {n: x.detach().requires_grad_(x.requires_grad) for n, x in own.items()}

        experts = {n: replace(x, **leaves_of(x)) for n, x in self.experts.items()}
        return replace(self, **leaves_of(self), experts=experts)

    def backward(self, leaves: ItemTables) -> None:
        """Send the gradients that gathered in `leaves` on to the parameters."""
        pairs = zip(self.tensors(), leaves.tensors(), strict=True)
        gathered = [(table, leaf.grad) for table, leaf in pairs if leaf.grad is not None]
        if gathered:
            ends, gradients = zip(*gathered, strict=True)
            torch.autograd.backward(ends, gradients)


class Scores(NamedTuple):
    """Scores of candidates at positions."""

    total: Tensor
    """[B, P, C]"""
    picture: Tensor
    """[B, P, C] share of the picture in the item's content, the text has the rest; empty where the
    stage uses no content."""
    products: dict[str, Tensor]
    """[B, P, C] each, as far as the stage's score has them: h·e of the `sequence`, h·P_v v of the
    `picture`, h·P_t t of the `text`, (Σ w LN(o))·e of the `memory`."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Scores:
        """The function of every tensor."""
        products = {name: function(product) for name, product in self.products.items()}
        return Scores(function(self.total), function(self.picture), products)


class GatingWeight(nn.Module):
    """γ: how much content and memory count beside the sequence. Memory starts at exactly 0."""

    def __init__(self) -> None:
        super().__init__()
        self.content = nn.Parameter(torch.ones(()))
        self.memory = nn.Parameter(torch.zeros(()))


class Recommender(nn.Module):
    """The model of one stage: it holds the modules that the stage's graph has, and no others.

    `num_items` are without the padding; their content is required where the stage uses content.
    """

    def __init__(
        self, settings: ModelSettings, stage: Stage, num_items: int, content: Content | None
    ) -> None:
        super().__init__()
        dim = settings.dim
        self.stage = stage
        self.sasrec = SASRec(settings, num_items)
        self.experts: list[str] = []
        if stage.reads_content and content is None:
            raise ValueError(f"{stage.name} needs the items' content")
        if stage.projects and content is not None:
            self.sasrec.item_emb = ProjectedItems(content, settings)
        if stage.content and content is not None:
            self.visual = nn.Buffer(content.visual, persistent=False)
            self.text = nn.Buffer(content.text, persistent=False)
            self.has_content = nn.Buffer(content.present.any(1), persistent=False)
            self.lean = nn.Buffer(leanings(content.present), persistent=False)
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

    def tables(self) -> ItemTables | None:
        """What the score needs of all items; None where it needs their ID embeddings only."""
        if not self.stage.content:
            return None
        item_emb = self.sasrec.item_emb.weight  # [I + 1, D]
        visual, text = self.visual_proj(self.visual), self.text_proj(self.text)
        spaces = {
            "visual": (visual, visual),
            "semantic": (item_emb, text),
            "identity": (item_emb, item_emb),
        }
        experts = {n: self._expert(n).tables(*spaces[n], item_emb) for n in self.experts}
        real = self.has_content.unsqueeze(1)  # an item without any content has a z of 0
        visual, text = visual * real, text * real
        left = (visual, visual, text, visual, text, item_emb)
        right = (visual, text, text, item_emb, item_emb, item_emb)
        return ItemTables(
            visual=visual,
            text=text,
            gate=self.align_gating.item_part(visual, text),
            products=torch.stack([(a * b).sum(1) for a, b in zip(left, right, strict=True)], 1),
            routed=self.router(item_emb) if self.stage.memory else None,
            experts=experts,
        )

    def with_kept_pairs(self, tables: ItemTables, size: int, first: Ints) -> ItemTables:
        """Tables for rankings of all items for one memory after another: see `KeptPairs`.

        Args:
            tables: of this model, which must not change.
            size: bytes that may be taken, for one entry at least.
            first: item ids of the entries to begin with, the most wanted first.
        """
        heads = sum(self._expert(name).heads for name in tables.experts)
        of_entry = 2 * heads * tables.visual[1:, 0].nbytes
        entries = min(max(1, size // max(1, of_entry)), len(first))
        experts = {
            name: self._expert(name).with_kept_pairs(of_expert, entries, first)
            for name, of_expert in tables.experts.items()
        }
        return replace(tables, experts=experts)

    def content(self) -> Tensor:
        """z̄ [I + 1, D], which takes the place of an ID embedding where there is none."""
        tables = self.tables()
        if tables is None:
            raise ValueError(f"{self.stage.name} has no content")
        return tables.content(self.lean)

    def score(
        self,
        hidden: Tensor,
        candidates: Tensor,
        tables: ItemTables | None = None,
        memories: Tensor | None = None,
        keep: Tensor | None = None,
        gate: Tensor | None = None,
    ) -> Scores:
        """Score candidates at positions, in the form of the stage.

        Args:
            hidden: [B, P, D] hidden states.
            candidates: item ids: [C] shared by all, [B, C] by a row's positions, or [B, P, C].
            tables: from `tables`; required where the stage uses content.
            memories: [B, P, M] items that the user's memory gives at each position, 0 where there
                is no entry; required where the stage reads the memory.
            keep: [B, P, G] dropout factors for the gating, or none.
            gate: [B, P, G] the positions' part of the gating; None: it is made here.
        """
        batch, length, _ = hidden.shape
        groups = {1: (1, batch * length), 2: (batch, length), 3: (batch * length, 1)}
        group = groups[candidates.dim()]  # X, Y

        def grouped(x: Tensor) -> Tensor:
            return x.reshape(*group, x.shape[2])

        hidden, candidates = grouped(hidden), candidates.reshape(group[0], -1)  # [X, Y, D], [X, C]

        def ungrouped(x: Tensor) -> Tensor:
            return x.reshape(batch, length, -1)

        rows = Rows(candidates)
        total = rows.products(hidden, self.sasrec.item_emb.weight, padding=0)  # [X, Y, C]
        products = {"sequence": ungrouped(total)}
        if tables is None:
            return Scores(products["sequence"], total.new_empty(0), products)
        picture: Tensor = self.align_gating(
            self.align_gating.position_part(hidden) if gate is None else grouped(gate),
            rows.of(tables.gate),
            rows.of(self.lean[:, None]).squeeze(-1),
            None if keep is None else grouped(keep),
        )
        by_picture = rows.products(hidden, tables.visual)
        by_text = rows.products(hidden, tables.text)
        by_content = by_text + picture * (by_picture - by_text)
        total = total + self.gating_weight.content * by_content
        products |= {"picture": ungrouped(by_picture), "text": ungrouped(by_text)}
        if memories is not None and tables.routed is not None:
            routed = rows.of(tables.routed).unsqueeze(1)  # [X, 1, C, E]
            by_memory = torch.zeros_like(total)
            for k, (name, of_expert) in enumerate(tables.experts.items()):
                read = self._expert(name)(of_expert, rows, grouped(memories))
                by_memory = by_memory + routed[..., k] * read
            total = total + self.gating_weight.memory * by_memory
            products["memory"] = ungrouped(by_memory)
        return Scores(ungrouped(total), ungrouped(picture), products)

    def by_content(self, scores: Scores, items: Tensor) -> Tensor:
        """h·z̄ [B, P, C] of candidates whose item ids are `items` [B or 1, P or 1, C]."""
        text, share = scores.products["text"], torch.sigmoid(self.lean)[items]
        return text + share * (scores.products["picture"] - text)

    def contributions(self, scores: Scores) -> dict[str, Tensor]:
        """What each of the products adds to the scores, [B, P, C]; together it is their total."""
        weights: dict[str, Tensor | float] = {"sequence": 1.0}
        if self.stage.content:
            content = self.gating_weight.content
            weights["picture"] = content * scores.picture
            weights["text"] = content * (1 - scores.picture)
            weights["memory"] = self.gating_weight.memory
        return {name: weights[name] * product for name, product in scores.products.items()}

    def memory_shares(self, tables: ItemTables, candidates: Tensor, memory: Tensor) -> Tensor:
        """What each entry of one memory adds to the scores, and last what is no entry's [C, M + 1].

        Together they are the `memory` of `contributions`, for candidates [C] and entries [M].
        """
        routed = tables.routed
        if routed is None:
            raise ValueError(f"{self.stage.name} reads no memory")
        by_expert = [
            routed[candidates, k, None] * self._expert(name).shares(of_expert, candidates, memory)
            for k, (name, of_expert) in enumerate(tables.experts.items())
        ]
        return self.gating_weight.memory * torch.stack(by_expert).sum(0)

    def _expert(self, name: str) -> MemoryExpert:
        module: MemoryExpert = self.get_submodule(f"{name}_expert")  # type: ignore[assignment]
        return module
