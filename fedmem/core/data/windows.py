"""Training windows: the latest stretches of each user's training items."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import Ints, Places, UserIndices, offsets_of, ranges
from fedmem.core.data.interactions import Interactions


@dataclass(frozen=True)
class Windows:
    """Stretches of targets, each with the item before it as its input. Targets never overlap."""

    interactions: Interactions
    user: npt.NDArray[np.int64]
    """[R]"""
    number: npt.NDArray[np.int64]
    """[R] which of the user's windows, 0 = the latest."""
    start: npt.NDArray[np.int64]
    """[R] position in the user's history of the first target."""
    lengths: npt.NDArray[np.int64]
    """[R] targets."""

    @classmethod
    def cut(
        cls, interactions: Interactions, users: UserIndices, windows: int, length: int
    ) -> Windows:
        """Cut at most `windows` of at most `length` targets from each user, latest first."""
        targets = interactions.targets[users]
        counts = np.minimum(-(-targets // length), windows)
        number = ranges(np.zeros_like(counts), counts)
        end = np.repeat(targets, counts) + 1 - number * length
        start = np.maximum(end - length, 1)
        return cls(interactions, np.repeat(users, counts), number, start, end - start)

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def offsets(self) -> Places:
        """[R + 1]: where targets stand one after the other, window r has offsets[r : r + 2]."""
        return offsets_of(self.lengths)

    def inputs(self, rows: npt.NDArray[np.integer]) -> Ints:
        """[B, T] the item before each target; padded on the right with 0 to the longest."""
        return self.pairs(rows)[0]

    def targets(self, rows: npt.NDArray[np.integer]) -> Ints:
        """[B, T] targets, padded on the right with 0 to the longest."""
        return self.pairs(rows)[1]

    def pairs(self, rows: npt.NDArray[np.integer]) -> tuple[Ints, Ints]:
        """`inputs` and `targets`, for little more than one of them."""
        lengths, items = self.lengths[rows, None], self.interactions.items  # [B, 1]
        steps = np.arange(lengths.max(initial=0))  # [T]
        first = self.interactions.offsets[self.user[rows]] + self.start[rows]
        places = np.minimum(first[:, None] + steps, len(items) - 1)
        real = steps < lengths
        return np.where(real, items[places - 1], 0), np.where(real, items[places], 0)
