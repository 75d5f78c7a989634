"""Padded rows as their real positions, end to end: nothing then is computed at padding."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Between rows [B, T, C], padded on the right, and their N real positions [N, C].

    What goes position by position has nothing to do at padding, and what looks within a row goes by
    rows of one length. That is for a CPU; a GPU has done with padding sooner than with as many
    small steps.

    Attributes:
        lengths: [B] real positions of each row; best if rows of one length follow each other.
        places: [N] where among the B · T positions the real ones are, ascending.
    """

    lengths: list[int]
    places: Tensor

    def by_rows(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """A function of rows [b, t, C], each by itself, of real positions [N, C] → [N, C']."""
        groups = [(length, len(list(own))) for length, own in itertools.groupby(self.lengths)]
        parts = torch.split(x, [length * rows for length, rows in groups])
        made = [
            function(part.view(rows, length, -1)).flatten(0, 1)
            for part, (length, rows) in zip(parts, groups, strict=True)
        ]
        return made[0] if len(made) == 1 else torch.cat(made)

    def spread(self, x: Tensor) -> Tensor:
        """[N, C] → [B, T, C], zeros at padding."""
        rows, longest = len(self.lengths), max(self.lengths, default=0)
        if len(x) < rows * longest:
            x = x.new_zeros(rows * longest, x.shape[1]).index_copy(0, self.places, x)
        return x.view(rows, longest, -1)
