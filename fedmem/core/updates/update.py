"""What training changed: at users side by side, and in the mean over users."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

PART = 1 << 16
"""Numbers of a change that are summed up at a time."""


@dataclass(frozen=True)
class Update:
    """The mean of users' changes, weighted by their targets.

    Attributes:
        change: new minus old, by parameter name, for the stage's scope.
        weight: targets trained on, the weight of the change in any further average.
        loss: mean loss a target.
        users: users in the mean.
        left_out: users that were trained and whose updates a filter dropped.
    """

    change: dict[str, Tensor]
    weight: int
    loss: float
    users: int
    left_out: int = 0

    @property
    def norm(self) -> float:
        """Euclidean length of the change."""
        return math.sqrt(sum(float(norms(x[None])) ** 2 for x in self.change.values()))


@dataclass(frozen=True)
class UserUpdates:
    """What each of S users changed, side by side.

    Attributes:
        users: [S] user indices.
        change: new minus old, by parameter name, each [S, ...].
        weights: [S] targets trained on.
        losses: [S] mean loss a target.
    """

    users: npt.NDArray[np.integer]
    change: dict[str, Tensor]
    weights: npt.NDArray[np.integer]
    losses: npt.NDArray[np.floating]

    @property
    def norms(self) -> npt.NDArray[np.float64]:
        """Euclidean lengths [S] of the changes."""
        lengths = torch.stack([norms(x) for x in self.change.values()]).norm(dim=0)
        return np.asarray(lengths.cpu().numpy(), dtype=np.float64)

    def where(self, kept: npt.NDArray[np.bool_]) -> UserUpdates:
        """Those of the users that are kept [S]."""
        if kept.all():
            return self
        rows = torch.from_numpy(np.flatnonzero(kept))
        change = {name: each[rows.to(each.device)] for name, each in self.change.items()}
        return UserUpdates(self.users[kept], change, self.weights[kept], self.losses[kept])


def norms(changes: Tensor) -> Tensor:
    """Euclidean lengths [S] of changes [S, ...], summed up in float64."""
    rows = changes.reshape(len(changes), -1)
    if rows.device.type == "cpu":
        return torch.tensor([_square(row) for row in rows], dtype=torch.float64).sqrt()
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return lengths


def _square(row: Tensor) -> float:
    """|row|², from parts that fit a cache in float64: ten times as fast as torch's own norm."""
    parts = (part.double() for part in torch.split(row, PART))
    return sum(float(part @ part) for part in parts)


def mean(groups: Iterable[UserUpdates], scope: Mapping[str, Tensor]) -> Update:
    """The mean over all users of all groups, weighted by their targets.

    Where no user has any, the change of the scope, the parameters that train, is zero.
    """
    total = {name: torch.zeros_like(parameter) for name, parameter in scope.items()}
    weight, loss, users = 0, 0.0, 0
    for group in groups:
        for name, each in group.change.items():
            if len(each) == 1:  # the same, sooner
                part = each[0] * float(group.weights[0])
            else:
                weights = torch.from_numpy(group.weights).to(each.device, each.dtype)
                part = torch.tensordot(weights, each, 1)
            if part.dtype == total[name].dtype:
                total[name] += part
            else:  # in the precision of the changes, where that is higher
                total[name] = total[name] + part
        weight += int(group.weights.sum())
        loss += float(group.losses @ group.weights)
        users += len(group.users)
    change = {name: value / max(weight, 1) for name, value in total.items()}
    return Update(change, weight, loss / max(weight, 1), users)
