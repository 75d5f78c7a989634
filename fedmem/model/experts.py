"""Experts that read the user's memory for a candidate item, and the router that weighs them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHARPNESS = 4.0
"""With one head an attention logit is at first this times cos(candidate, entry): attention starts
out by looking at what is alike."""

AXES = {1: "c", 2: "bc", 3: "bpc"}
"""Axes of a candidate tensor by its rank: shared by all, by a row's positions, or by none."""


def spread(x: Tensor, rank: int) -> Tensor:
    """Give candidates of rank 1, 2 or 3 (with trailing feature axes) the axes [B, P, C, ...]."""
    if rank == 1:
        return x[None, None]
    return x[:, None] if rank == 2 else x


class MemoryExpert(nn.Module):
    """Multi-head attention from a candidate to the memory's entries.

    The identity expert is target attention as in G. Zhou et al., "Deep Interest Network", KDD 2018.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.length = math.sqrt(SHARPNESS * math.sqrt(dim))
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim)
        for projection in (self.query, self.key, self.value):
            nn.init.eye_(projection.weight)

    def forward(
        self, queries: Tensor, entries: Tensor, candidates: Tensor, items: Tensor, mask: Tensor
    ) -> Tensor:
        """Normalised read-out LN(o) [B, P, C, D]; exactly 0 where the memory is empty.

        Queries, keys and values depend on the item alone, so they are computed once an item, from
        the tables, and then looked up.

        Args:
            queries: [I + 1, D], the table in which candidates are looked up.
            entries: [I + 1, D], the table in which memory entries are looked up.
            candidates: item ids [C], [B, C] or [B, P, C].
            items: item ids [B, P, M] of the memory's entries.
            mask: [B, P, M], true at real entries.
        """
        axes = AXES[candidates.dim()]
        # eps bounds the gradient where content is still all zeros.
        queries = F.normalize(queries, dim=-1, eps=1e-2) * self.length
        entries = F.normalize(entries, dim=-1, eps=1e-2) * self.length
        q = self._heads(F.embedding(candidates, self.query(queries)))
        k = self._heads(F.embedding(items, self.key(entries)))
        v = self._heads(F.embedding(items, self.value(entries)))
        logits = torch.einsum(f"{axes}he,bpmhe->bphcm", q, k) / math.sqrt(q.shape[-1])
        held = mask[:, :, None, None, :]  # [B, P, 1, 1, M]
        attention = torch.softmax(logits.masked_fill(~held, -torch.inf), dim=-1)
        attention = attention.masked_fill(~held, 0.0)  # an empty memory gave NaN
        out = torch.einsum("bphcm,bpmhe->bpche", attention, v).flatten(-2)  # [B, P, C, D]
        return self.norm(out) * mask.any(-1)[:, :, None, None]  # type: ignore[no-any-return]

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], self.heads, -1)


class Router(nn.Module):
    """Softmax weights of the experts for a candidate, from its ID embedding."""

    def __init__(self, dim: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, hidden)
        self.weights = nn.Linear(hidden, experts)

    def forward(self, item_emb: Tensor) -> Tensor:
        """[..., D] → [..., E]."""
        return torch.softmax(self.weights(F.relu(self.hidden(item_emb))), dim=-1)
