"""Experts that read the user's memory for a candidate item, and the router that weighs them.

What an expert adds to a score is LN(o)·e_i, o its read-out for candidate i. The read-out is a
weighted sum of the M entries' values, so with u = g ⊙ e_i (g, b: gain and bias of the LayerNorm)

    LN(o)·e_i = (o·(u − mean u)) / √(var o + ε) + b·e_i,    o·u = Σ_m a_m (v_m·u)

and var o follows from the inner products of the values. All is computed from numbers a pair of
candidate and entry; the [candidates, D] read-outs themselves, D ≫ M/heads, are never formed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedmem.model.kernel import read_out_moments

SHARPNESS = 4.0
"""With one head an attention logit is at first this times cos(candidate, entry): attention starts
out by looking at what is alike."""

NEVER = -1e9
"""Logit of a place without an entry."""


@dataclass(frozen=True)
class ExpertTables:
    """What an expert needs of every item; all [I + 1, D] but the last."""

    query: Tensor
    """As a candidate, scaled by 1/√(D/heads)."""
    key: Tensor
    """As an entry."""
    value: Tensor
    """As an entry; row 0, the padding, is zeros."""
    probe: Tensor
    """g ⊙ e less its mean."""
    shift: Tensor
    """[I + 1] b·e."""


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

    def tables(self, queries: Tensor, entries: Tensor, item_emb: Tensor) -> ExpertTables:
        """What depends on the item alone.

        Args:
            queries: [I + 1, D] items as candidates look for entries.
            entries: [I + 1, D] items as the memory holds them.
            item_emb: [I + 1, D] the ID embeddings e.
        """
        # eps bounds the gradient where content is still all zeros.
        queries = F.normalize(queries, dim=-1, eps=1e-2) * self.length
        entries = F.normalize(entries, dim=-1, eps=1e-2) * self.length
        value = self.value(entries)
        padding = torch.zeros_like(value[:1])
        probe = self.norm.weight * item_emb
        return ExpertTables(
            query=self.query(queries) * (queries.shape[1] / self.heads) ** -0.5,
            key=self.key(entries),
            value=torch.cat([padding, value[1:]]),
            probe=probe - probe.mean(-1, keepdim=True),
            shift=item_emb @ self.norm.bias,
        )

    def forward(self, tables: ExpertTables, candidates: Tensor, items: Tensor) -> Tensor:
        """LN(o)·e [X, Y, C]; exactly 0 where the memory is empty.

        Args:
            tables: from `tables`.
            candidates: item ids [X, C].
            items: item ids [X, Y, M] of the memories' entries, 0 where there is none.
        """
        rows, length, entries = items.shape
        dim = tables.value.shape[1]
        pairs = (rows, self.heads, candidates.shape[1], length, entries)  # [X, H, C, Y, M]
        held = items.flatten(1)  # [X, YM]
        query = self._by_head(F.embedding(candidates, tables.query))  # [X, H, C, D/H]
        probe = self._by_head(F.embedding(candidates, tables.probe))
        key = self._by_head(F.embedding(held, tables.key))  # [X, H, YM, D/H]
        value = self._by_head(F.embedding(held, tables.value))
        absent = (items == 0)[:, None, None]  # [X, 1, 1, Y, M]
        logits = (query @ key.mT).view(pairs) + absent * NEVER
        attention = torch.softmax(logits, dim=-1)
        along = (probe @ value.mT).view(pairs)
        values = value.view(rows, self.heads, length, entries, -1)  # [X, H, Y, M, D/H]
        gram = values @ values.mT  # [X, H, Y, M, M]
        o_u, o_sum, o_o = read_out_moments(attention, along, values.sum(-1), gram)  # [X, C, Y]
        variance = (o_o / dim - (o_sum / dim).square()).clamp(min=0)
        shift = F.embedding(candidates, tables.shift[:, None])  # [X, C, 1]
        read = o_u * (variance + self.norm.eps).rsqrt() + shift
        return read.mT * (items > 0).any(-1).unsqueeze(2)

    def _by_head(self, x: Tensor) -> Tensor:
        """[X, N, D] → [X, H, N, D/H]."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Router(nn.Module):
    """Softmax weights of the experts for a candidate, from its ID embedding."""

    def __init__(self, dim: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, hidden)
        self.weights = nn.Linear(hidden, experts)

    def forward(self, item_emb: Tensor) -> Tensor:
        """[..., D] → [..., E]."""
        return torch.softmax(self.weights(F.relu(self.hidden(item_emb))), dim=-1)
