"""Experts that read the user's memory for a candidate item, and the router that weighs them.

What an expert adds to a score is LN(o)·e_i, o its read-out for candidate i. The read-out is a
weighted sum of the M entries' values, so with u = g ⊙ e_i (g, b: gain and bias of the LayerNorm)

    LN(o)·e_i = (o·(u − mean u)) / √(var o + ε) + b·e_i,    o·u = Σ_m a_m (v_m·u)

and var o follows from the inner products of the values. All is computed from numbers a pair of
candidate and entry; the [candidates, D] read-outs themselves, D ≫ M/heads, are never formed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedmem.core.arrays import Ints
from fedmem.core.model.kept_pairs import KeptPairs
from fedmem.core.model.kernels.distinct_entries import distinct_entries, distinct_moments
from fedmem.core.model.kernels.kept_moments import kept_moments
from fedmem.core.model.kernels.read_out_moments import Moments, read_out_moments, shared_moments
from fedmem.core.model.linear import Linear
from fedmem.core.model.rows import Rows, look_up

SHARPNESS = 4.0
"""With one head an attention logit is at first this times cos(candidate, entry): attention starts
out by looking at what is alike."""

NEVER = -1e9
"""Logit of a place without an entry."""

SPREAD = 40.0
"""Logits of a candidate this far apart have odds whose squares are still above 0 in float32."""

PAIRS_AT_ONCE = 1 << 22
"""Pairs of a candidate and an entry that are held at a time where memories share their candidates,
and each pair's numbers three or four times."""


@dataclass(frozen=True)
class ExpertTables:
    """What an expert needs of every item; [I + 1, D] where nothing else is said."""

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
    kept: KeptPairs | None = None
    """Pairs with all items, for where many memories are read one after the other."""


class MemoryExpert(nn.Module):
    """Multi-head attention from a candidate to the memory's entries.

    The identity expert is target attention as in G. Zhou et al., "Deep Interest Network", KDD 2018.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.length = math.sqrt(SHARPNESS * math.sqrt(dim))
        self.query = Linear(dim, dim, bias=False)
        self.key = Linear(dim, dim, bias=False)
        self.value = Linear(dim, dim, bias=False)
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

    def forward(self, tables: ExpertTables, rows: Rows, items: Tensor) -> Tensor:
        """LN(o)·e [X, Y, C]; exactly 0 where the memory is empty.

        Args:
            tables: from `tables`.
            rows: of candidates [X, C].
            items: item ids [X, Y, M] of the memories' entries, 0 where there is none.
        """
        if tables.kept is not None and tables.kept.serve(rows.in_place, items.shape[2]):
            o_u, o_sum, o_o = self._kept_moments(tables, tables.kept, items[0])
        else:
            moments_of = self._shared_moments if rows.shared else self._moments
            o_u, o_sum, o_o = moments_of(tables, rows, items)
        shift = rows.of(tables.shift[:, None]).mT  # [X, 1, C]
        read = o_u * self._scale(o_sum, o_o) + shift
        return read * (items > 0).any(-1).unsqueeze(2)

    @torch.no_grad()
    def with_kept_pairs(self, tables: ExpertTables, entries: int, first: Ints) -> ExpertTables:
        """The same tables, with pairs that are kept of so many entries; see `KeptPairs`."""
        rows = Rows(torch.arange(1, len(tables.query))[None])

        def pairs_of(held: Tensor) -> tuple[Tensor, Tensor]:
            logits, along, _ = self._pairs(tables, rows, held[None])
            return logits[0], along[0]

        items = rows.items.shape[1]
        kept = KeptPairs(pairs_of, self.heads, items, entries, first)
        return replace(tables, kept=kept)

    def shares(self, tables: ExpertTables, candidates: Tensor, items: Tensor) -> Tensor:
        """What each entry of one memory adds to LN(o)·e, and last what is no entry's: [C, M + 1].

        With the variance of o as it is, o·u is a sum over the entries; the LayerNorm's bias is the
        rest. Their sum is that of `forward`, for candidates [C] and entries [M].
        """
        rows, held = Rows(candidates[None]), items[None]
        query, probe = self._split(rows.of(tables.query)), self._split(rows.of(tables.probe))
        logits = query @ self._entries(tables.key, held).mT  # [1, H, C, M]
        attention = torch.softmax(logits + (items == 0) * NEVER, dim=-1)
        along = probe @ self._entries(tables.value, held).mT
        of_entries = (attention * along).sum(1)[0]  # [C, M]
        _, o_sum, o_o = self._moments(tables, rows, held[None])  # [1, 1, C]
        of_none = tables.shift[candidates][:, None]
        shares = torch.cat([of_entries * self._scale(o_sum, o_o)[0].T, of_none], dim=1)
        return shares * (items > 0).any()

    def _scale(self, o_sum: Tensor, o_o: Tensor) -> Tensor:
        """1 / the standard deviation that the LayerNorm divides by, from the sums of o and o²."""
        dim = self.norm.normalized_shape[0]
        variance = (o_o / dim - (o_sum / dim).square()).clamp(min=0)
        return (variance + self.norm.eps).rsqrt()

    def _moments(self, tables: ExpertTables, rows: Rows, items: Tensor) -> Moments:
        """o·u, the sum of o and o·o, each [X, Y, C]."""
        if items.device.type == "cpu":
            return self._distinct_moments(tables, rows, items)
        groups, length, entries = items.shape
        pairs = (groups, self.heads, rows.items.shape[1], length, entries)  # [X, H, C, Y, M]
        held = items.flatten(1)  # [X, YM]
        value = self._entries(tables.value, held)  # [X, H, YM, D/H]
        logits = self._split(rows.of(tables.query)) @ self._entries(tables.key, held).mT
        along = self._split(rows.of(tables.probe)) @ value.mT  # [X, H, C, YM]
        absent = (items == 0)[:, None, None]  # [X, 1, 1, Y, M]
        attention = torch.softmax(logits.view(pairs) + absent * NEVER, dim=-1)
        values = value.view(groups, self.heads, length, entries, -1)  # [X, H, Y, M, D/H]
        gram = values @ values.mT  # [X, H, Y, M, M]
        return read_out_moments(attention, along.view(pairs), values.sum(-1), gram)

    def _distinct_moments(self, tables: ExpertTables, rows: Rows, items: Tensor) -> Moments:
        """The same on CPUs, where each row's positions look up what is computed once for them."""
        held, places = distinct_entries(items)  # [X, N], [X, Y, M]
        return distinct_moments(*self._pairs(tables, rows, held), places)

    def _pairs(
        self, tables: ExpertTables, rows: Rows, held: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and v·u [X, H, N, C] of candidates [X, C] at entries [X, N], whose v follow."""
        value = self._entries(tables.value, held)
        logits = self._entries(tables.key, held) @ self._split(rows.of(tables.query)).mT
        along = value @ self._split(rows.of(tables.probe)).mT
        return logits, along, value

    def _shared_moments(self, tables: ExpertTables, rows: Rows, items: Tensor) -> Moments:
        """The same where all positions share their candidates, X = 1; no gradient.

        Memories hold much the same items, so what a candidate has to do with an entry is computed
        once for all positions, its exponential included; except for candidates whose logits are
        too far apart for that.
        """
        held, places = torch.unique(items[0], return_inverse=True)  # [N], [Y, M]
        key, value = (self._entries(table, held[None]) for table in (tables.key, tables.value))
        values = self._entries(tables.value, items[0])  # [Y, H, M, D/H]
        sums, gram = values.sum(-1), values @ values.mT  # [Y, H, M], [Y, H, M, M]

        def of(some: Rows) -> Moments:
            logits = key @ self._split(some.of(tables.query)).mT
            largest = logits.amax(2, keepdim=True)  # of [1, H, N, C]
            if (largest - logits.amin(2, keepdim=True)).max() > SPREAD:
                pairs = items.numel() * self.heads
                return _in_parts(some, pairs, lambda few: self._apart(tables, few, items[0]))
            along = value @ self._split(some.of(tables.probe)).mT
            odds = logits.sub_(largest).exp_()
            if not held[0]:  # ascending: only the first can be no entry
                odds[:, :, 0] = 0.0
            weighted = along.mul_(odds)
            o_u, o_sum, o_o = shared_moments(odds[0], weighted[0], places, sums, gram)
            return o_u[None], o_sum[None], o_o[None]

        return _in_parts(rows, len(held) * self.heads, of)

    def _kept_moments(self, tables: ExpertTables, kept: KeptPairs, items: Tensor) -> Moments:
        """The same of all items from kept pairs, one memory [M] of the [Y, M] after the other."""
        o_u, o_sum, o_o = tables.query.new_zeros(3, 1, len(items), len(tables.query) - 1)
        for y, memory in enumerate(items):
            held = memory[memory > 0]
            if len(held):
                value = self._entries(tables.value, held[None])[0]  # [H, M, D/H]
                moments = kept_moments(kept.logits, kept.along, kept.places(held.numpy()), value)
                o_u[0, y], o_sum[0, y], o_o[0, y] = moments
        return o_u, o_sum, o_o

    def _apart(self, tables: ExpertTables, rows: Rows, items: Tensor) -> Moments:
        """The same, of memories [Y, M] each of which is a row of its own."""
        each = Rows(rows.items.expand(len(items), -1))
        o_u, o_sum, o_o = (x.transpose(0, 1) for x in self._moments(tables, each, items[:, None]))
        return o_u, o_sum, o_o

    def _entries(self, table: Tensor, items: Tensor) -> Tensor:
        """Rows of a table [I + 1, D] for entries [X, N], by head: [X, H, N, D/H]."""
        return self._split(look_up(table, items))

    def _split(self, rows: Tensor) -> Tensor:
        """[X, N, D] by head: [X, H, N, D/H]."""
        return rows.view(*rows.shape[:2], self.heads, -1).transpose(1, 2)


def _in_parts(rows: Rows, pairs: int, moments_of: Callable[[Rows], Moments]) -> Moments:
    """Moments of candidates of which each makes so many pairs, as many as may be at once."""
    size = max(1, PAIRS_AT_ONCE // pairs)
    starts = range(0, rows.items.shape[1], size)
    parts = [moments_of(rows.part(start, start + size)) for start in starts]
    if len(parts) == 1:
        return parts[0]
    o_u, o_sum, o_o = (torch.cat(of, dim=2) for of in zip(*parts, strict=True))
    return o_u, o_sum, o_o


class Router(nn.Module):
    """Softmax weights of the experts for a candidate, from its ID embedding."""

    def __init__(self, dim: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.scale = math.sqrt(dim)
        """As of the backbone's inputs: on small embeddings the weights hardly differ by item."""
        self.hidden = Linear(dim, hidden)
        self.weights = Linear(hidden, experts)

    def forward(self, item_emb: Tensor) -> Tensor:
        """[..., D] → [..., E]."""
        return torch.softmax(self.weights(F.relu(self.hidden(item_emb * self.scale))), dim=-1)
