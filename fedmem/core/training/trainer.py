"""Local training: what one user, or a cohort of users, changes in a model in one round.

A stage's loss is a sum over training windows of terms that depend on the window alone. So a user's
gradient is a sum over its windows, and with one local SGD step the weighted mean of the users'
changes is one step on the sum over all their windows: a cohort is one batch, exactly.

A user whose update cannot be meant is left out, where users are trained one by one. One batch shows
only their sum: where that cannot be meant, the cohort is trained again one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from fedmem.core.data import Windows, by_length
from fedmem.core.data.sampling import UserIndices
from fedmem.core.machine.device import positions_at_once
from fedmem.core.model import Recommender
from fedmem.core.settings import ClientSettings, Settings
from fedmem.core.training.batches import Batch, BatchMaker, RoundKey, Rows
from fedmem.core.training.guard import LEANS, is_fit, leaning, norm_limit, reversed_among
from fedmem.core.training.hidden_states import HiddenStates
from fedmem.core.training.objective import Objective
from fedmem.core.training.stacked import train_stacked

STACK_BYTES = {"cpu": 1 << 28, "cuda": 1 << 31}
"""What the models of users side by side may take."""

COPIES = 6
"""Parameters, gradients, changes, Adam's two moments and a temporary: all are held for every such
user."""


@dataclass(frozen=True)
class Update:
    """What training changed.

    Attributes:
        change: new minus old, by parameter name, for the stage's scope; the weighted mean over the
            users trained.
        weight: targets trained on, the weight of the change in any further average.
        loss: mean loss a target.
        users: users trained.
        left_out: users that were trained in vain, since their updates could not be meant.
    """

    change: dict[str, Tensor]
    weight: int
    loss: float
    users: int
    left_out: int = 0

    @property
    def norm(self) -> float:
        """Euclidean length of the change."""
        return math.sqrt(sum(float(_norms(x[None])) ** 2 for x in self.change.values()))


def _norms(changes: Tensor) -> Tensor:
    """Norms [S] of changes [S, ...]."""
    rows = changes.reshape(len(changes), -1)
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return norms


@dataclass(frozen=True)
class Seen:
    """What the guard knows of a user's update: its norm, and the leaning [D] of its change."""

    user: int
    norm: float
    lean: Tensor | None


GroupsOf = Callable[[UserIndices, RoundKey, float, list[Seen]], Iterator[Update]]
"""(users, key, limit, seen): mean updates of groups of users. What is known of each user's is
appended to `seen`; one that is not finite, or is above the limit, is left out of its group's mean.
"""


def make_local_optimizer(settings: ClientSettings, change: Iterable[Tensor]) -> Optimizer:
    """The optimizer that `client.optimizer` names, stepping a user's change."""
    kinds: dict[str, type[SGD | Adam]] = {"sgd": SGD, "adam": Adam}
    return kinds[settings.optimizer](list(change), lr=settings.learning_rate)


class LocalTrainer:
    """Trains a stage's model on users that live here.

    Args:
        model: the stage's model, with the round's parameters; left as it was found.
        settings: of the run.
        windows: training windows of (at least) the users trained.
        memory_reads: see `BatchMaker`; required where the stage reads the memory.
        hidden_states: of the windows, by the model's backbone; required where that does not train.
    """

    def __init__(
        self,
        model: Recommender,
        settings: Settings,
        windows: Windows,
        memory_reads: npt.NDArray[np.int32] | None = None,
        hidden_states: HiddenStates | None = None,
    ) -> None:
        stage = model.stage
        self.model = model
        self.settings = settings
        self.windows = windows
        self.scope = {name: p for name, p in model.named_parameters() if stage.in_scope(name)}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in self.scope)
        self._hidden_states = hidden_states
        self._device = model.sasrec.norm.weight.device
        self._batches = BatchMaker(
            settings, stage, windows, model.sasrec.dropout_widths, memory_reads, self._device
        )
        self._objective = Objective(model, settings)

    def train_user(self, user: int, key: RoundKey) -> Update:
        """`local_steps` full-batch steps on one user: the definition of a user's update."""
        rows = self._rows_of(np.array([user]))
        before = {name: p.detach().clone() for name, p in self.scope.items()}
        # Summed up apart: new − old would round away changes that are small beside the parameter.
        change = {name: torch.zeros_like(p) for name, p in before.items()}
        optimizer = make_local_optimizer(self.settings.client, change.values())
        weight, loss = int(self.windows.lengths[rows].sum()), 0.0
        for step in range(self.settings.client.local_steps):
            loss = self.accumulate_gradient(rows, key, step) / max(weight, 1)
            with torch.no_grad():
                for name, parameter in self.scope.items():
                    if parameter.grad is not None and weight:
                        change[name].grad = parameter.grad / weight
                optimizer.step()
                for name, parameter in self.scope.items():
                    parameter.copy_(before[name] + change[name])
        with torch.no_grad():
            for name, parameter in self.scope.items():
                parameter.copy_(before[name])
        return Update(change, weight, loss, users=1)

    def train_cohort(self, users: UserIndices, key: RoundKey, limit: float = math.inf) -> Update:
        """The weighted mean of `train_user` over users, in the way of `client.execution`.

        Args:
            users: user indices.
            key: of the round.
            limit: norm of the mean above which users are looked at one by one.
        """
        way = self.settings.client.execution
        if way == "auto":
            way = self._fastest()
        one_by_one = self._stacks if way == "stacked" else self._singles
        if way != "batched":
            return self._guarded(one_by_one, users, key)
        update = self._batched(users, key)
        if not self._guards or is_fit(update.norm, update.loss, limit):
            return update
        return self._guarded(one_by_one, users, key)

    @property
    def _guards(self) -> bool:
        return self.settings.strategy.guard_ratio is not None

    def _fastest(self) -> str:
        client = self.settings.client
        if client.local_steps == 1 and client.optimizer == "sgd":
            return "batched"
        return "stacked" if self._device.type == "cuda" else "loop"

    def _batched(self, users: UserIndices, key: RoundKey) -> Update:
        """One step on the sum over all users' windows."""
        rows = self._rows_of(users)
        weight = int(self.windows.lengths[rows].sum())
        loss = self.accumulate_gradient(rows, key, step=0) / max(weight, 1)
        rate = -self.settings.client.learning_rate / max(weight, 1)
        change = {
            name: torch.zeros_like(p) if p.grad is None else p.grad * rate
            for name, p in self.scope.items()
        }
        return Update(change, weight, loss, len(users))

    def _guarded(self, groups_of: GroupsOf, users: UserIndices, key: RoundKey) -> Update:
        """The mean over users whose updates can be meant; twice the work where some cannot."""
        seen: list[Seen] = []
        update = self._mean(groups_of(users, key, math.inf, seen))
        limit = norm_limit([each.norm for each in seen], self.settings.strategy.guard_ratio)
        if any(limit < each.norm < math.inf for each in seen):
            # They could be taken off again, but with them the digits that they drowned.
            update = self._mean(groups_of(users, key, limit, []))
        strays = self._reversed([each for each in seen if is_fit(each.norm, 0.0, limit)])
        if strays:
            update = self._mean([update, *(self._taken_back(user, key) for user in strays)])
        return replace(update, users=len(users) - update.left_out)

    def _reversed(self, seen: list[Seen]) -> list[int]:
        """The users whose changes point the wrong way, where that is asked for and can be told."""
        leanings = [each.lean for each in seen if each.lean is not None]
        if not self.settings.strategy.guard_direction or len(leanings) < len(seen):
            return []
        strays = zip(seen, reversed_among(leanings), strict=True)
        return [each.user for each, stray in strays if stray]

    def _taken_back(self, user: int, key: RoundKey) -> Update:
        """What takes a user's update out of a mean again."""
        update = self.train_user(user, key)
        return replace(update, weight=-update.weight, users=-1, left_out=1)

    def _lean(self, change: dict[str, Tensor]) -> Tensor | None:
        if LEANS not in change or not self.settings.strategy.guard_direction:
            return None
        return leaning(change[LEANS])

    def _stacks(
        self, users: UserIndices, key: RoundKey, limit: float, seen: list[Seen]
    ) -> Iterator[Update]:
        """Users of similar length side by side, as many at a time as memory allows."""
        client, lengths = self.settings.client, self.windows.lengths
        rows = [self._rows_of(np.array([user])) for user in users]
        rows = [own for own in sorted(rows, key=lambda own: lengths[own].sum()) if len(own)]
        held = sum(p.numel() * p.element_size() for p in self.scope.values())
        size = max(1, STACK_BYTES[self._device.type] // (held * COPIES))
        for start in range(0, len(rows), size):
            group = rows[start : start + size]
            weights = np.array([lengths[own].sum() for own in group])
            change, losses = train_stacked(
                self._objective,
                self.scope,
                group,
                weights,
                lambda chosen, step: self._batch(chosen, key, step),
                client.local_steps,
                partial(make_local_optimizer, client),
            )
            own_norms = torch.stack([_norms(x) for x in change.values()]).norm(dim=0).tolist()
            for place, (own, norm) in enumerate(zip(group, own_norms, strict=True)):
                lean = self._lean({name: each[place] for name, each in change.items()})
                seen.append(Seen(int(self.windows.user[own[0]]), norm, lean))
            fit = [
                not self._guards or is_fit(norm, loss, limit)
                for norm, loss in zip(own_norms, losses.tolist(), strict=True)
            ]
            if not all(fit):
                kept = torch.tensor(fit)
                change = {name: each[kept.to(each.device)] for name, each in change.items()}
                losses, weights = losses[kept.to(losses.device)], weights[fit]
            total = int(weights.sum())
            shares = torch.from_numpy(weights / max(total, 1)).to(self._device, torch.float32)
            mean = {name: torch.tensordot(shares, each, 1) for name, each in change.items()}
            loss = float(losses.sum()) / max(total, 1)
            yield Update(mean, total, loss, sum(fit), len(fit) - sum(fit))

    def _singles(
        self, users: UserIndices, key: RoundKey, limit: float, seen: list[Seen]
    ) -> Iterator[Update]:
        """One user after the other."""
        for user in users:
            update = self.train_user(int(user), key)
            seen.append(Seen(int(user), update.norm, self._lean(update.change)))
            if not self._guards or is_fit(seen[-1].norm, update.loss, limit):
                yield update
            else:
                nothing = {name: torch.zeros_like(p) for name, p in self.scope.items()}
                yield Update(nothing, weight=0, loss=0.0, users=0, left_out=1)

    def _mean(self, updates: Iterable[Update]) -> Update:
        """The mean of updates, weighted by their targets."""
        total = {name: torch.zeros_like(p) for name, p in self.scope.items()}
        weight, loss, users, left_out = 0, 0.0, 0, 0
        for update in updates:
            for name, value in update.change.items():
                total[name].add_(value, alpha=update.weight)
            weight += update.weight
            loss += update.loss * update.weight
            users += update.users
            left_out += update.left_out
        change = {name: value / max(weight, 1) for name, value in total.items()}
        return Update(change, weight, loss / max(weight, 1), users, left_out)

    def accumulate_gradient(self, rows: Rows, key: RoundKey, step: int) -> float:
        """Leave the gradient of the loss, summed over the rows' targets, in `.grad`; the sum."""
        self.model.zero_grad(set_to_none=True)
        tables = self.model.tables()
        leaves = None if tables is None else tables.leaves()
        total = torch.zeros((), device=self._device)
        lengths = self.windows.lengths[rows]
        backbone = self._hidden_states is None
        at_once = positions_at_once(self.settings.client.micro_batch, self._device, backbone)
        for chunk in by_length(lengths, at_once):
            loss = self._objective(*self._batch(rows[chunk], key, step), leaves)
            loss.backward()
            total += loss.detach()
        if tables is not None and leaves is not None:
            tables.backward(leaves)
        return float(total)

    def _batch(self, rows: Rows, key: RoundKey, step: int) -> tuple[Batch, Tensor | None]:
        hidden = None if self._hidden_states is None else self._hidden_states.take(rows)
        return self._batches.make(rows, key, step), hidden

    def _rows_of(self, users: UserIndices) -> Rows:
        return np.flatnonzero(np.isin(self.windows.user, users))
