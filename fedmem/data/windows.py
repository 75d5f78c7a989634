"""Training windows: the latest stretches of each user's training items."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fedmem.data.interactions import Interactions


@dataclass(frozen=True)
class Windows:
    """Rows of input items and, one step ahead, their targets. Targets of a user never overlap.

    Attributes:
        user: [R] the row's user.
        number: [R] which of the user's windows, 0 = the latest.
        start: [R] position in the user's history of the row's first *target*.
        inputs: [R, T] items, padded with 0 on the right.
        targets: [R, T] the item after each input.
    """

    user: npt.NDArray[np.int32]
    number: npt.NDArray[np.int32]
    start: npt.NDArray[np.int32]
    inputs: npt.NDArray[np.int32]
    targets: npt.NDArray[np.int32]

    @classmethod
    def cut(
        cls, interactions: Interactions, users: npt.NDArray[np.integer], windows: int, length: int
    ) -> Windows:
        """Cut at most `windows` rows of at most `length` targets from each user, latest first."""
        spans = [
            (int(user), number, max(1, end - length), end)
            for user in users
            for number, end in enumerate(
                range(len(interactions.training(user)), 1, -length)[:windows]
            )
        ]
        inputs = np.zeros((len(spans), length), dtype=np.int32)
        targets = np.zeros_like(inputs)
        for row, (user, _, first, end) in enumerate(spans):
            items = interactions.training(user)
            inputs[row, : end - first] = items[first - 1 : end - 1]
            targets[row, : end - first] = items[first:end]
        about = np.array(spans, dtype=np.int32).reshape(-1, 4)
        return cls(about[:, 0], about[:, 1], about[:, 2], inputs, targets)

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """[R] real targets of each row."""
        return np.asarray((self.targets > 0).sum(axis=1), dtype=np.int64)

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """[R + 1] target p of row r is number offsets[r] + p of all targets."""
        return np.concatenate([[0], np.cumsum(self.lengths)])

    def take(self, rows: npt.NDArray[np.integer]) -> Windows:
        """These rows, cut to the longest of them."""
        length = int(self.lengths[rows].max(initial=0))
        return Windows(
            self.user[rows],
            self.number[rows],
            self.start[rows],
            self.inputs[rows, :length],
            self.targets[rows, :length],
        )
