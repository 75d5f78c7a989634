"""Canaries among the users of a federation in this process, and a witness of what it releases.

A canary is a user who, if a coin says so, hands in a long update along a coordinate of its own. It
goes through the same filters, average, noise and server as everybody's: only training is skipped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from flwr.app import Message
from flwr.serverapp import Grid
from torch import Tensor

from fedmem.clients import CohortClient
from fedmem.core.arrays import UserIndices
from fedmem.core.errors import FedmemError
from fedmem.core.machine.device import stack_bytes
from fedmem.core.model.parameters import Parameters
from fedmem.core.node import Node
from fedmem.core.privacy.accounting import Floats
from fedmem.core.privacy.audit import Bits
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.core.training.batches import RoundKey
from fedmem.core.training.trainer import LocalTrainer
from fedmem.core.updates.filter import UpdateFilter
from fedmem.core.updates.filters import make_filters
from fedmem.core.updates.update import UserUpdates
from fedmem.messaging.exchange import nothing
from fedmem.messaging.flower_internals import work_alone
from fedmem.messaging.messages import Task, from_array_record, update_to_record
from fedmem.messaging.roster import Roster
from fedmem.strategies import StageFedAvg

NODE = 1
"""The id of the one node."""

LENGTH = 4.0
"""Of a canary's update, beside the longest that may pass: where the bound is forgotten, four times
as much comes through, too little for the server to notice by the length of a mean."""


@dataclass(frozen=True)
class Canaries:
    """Users that are not in the data.

    Attributes:
        users: their indices [C], ascending.
        present: which of them are in [C].
        places: of each the parameter, and the coordinate in it, that is its own.
        length: of their updates, before any filter.
    """

    users: UserIndices
    present: Bits
    places: list[tuple[str, int]]
    length: float

    @classmethod
    def draw(
        cls, settings: Settings, scope: Mapping[str, Tensor], first: int, count: int
    ) -> Canaries:
        """So many, with the run's seed, numbered from `first`; each parameter has its share.

        Raises:
            FedmemError: the scope has not so many coordinates.
        """
        room = sum(value.numel() for value in scope.values())
        if count > room:
            raise FedmemError(f"--canaries {count} are more than the {room} numbers that train.")
        generator = np.random.default_rng([settings.seed, count])
        orders = {name: list(generator.permutation(x.numel())) for name, x in scope.items()}
        places: list[tuple[str, int]] = []
        while len(places) < count:
            places += [(name, int(order.pop())) for name, order in orders.items() if order]
        return cls(
            users=np.arange(first, first + count),
            present=generator.integers(0, 2, count).astype(bool),
            places=places[:count],
            length=LENGTH * max(settings.privacy.clip or 1.0, 1.0),
        )

    def updates(self, users: UserIndices, scope: Mapping[str, Tensor]) -> Iterator[UserUpdates]:
        """Those of the canaries among users that are in, a few side by side."""
        chosen = np.flatnonzero(np.isin(self.users, users) & self.present)
        device = next(iter(scope.values())).device
        size = stack_bytes(device) // (8 * sum(4 * value.numel() for value in scope.values()))
        for some in np.array_split(chosen, range(max(1, size), len(chosen), max(1, size))):
            change = {n: torch.zeros(len(some), *x.shape, device=device) for n, x in scope.items()}
            for row, canary in enumerate(some.tolist()):
                name, coordinate = self.places[canary]
                change[name][row].view(-1)[coordinate] = self.length
            ones = np.ones(len(some), dtype=np.int64)
            yield UserUpdates(self.users[some], change, ones, np.zeros(len(some)))

    def read(self, values: Mapping[str, Tensor]) -> Floats:
        """The canaries' coordinates [C] of parameters."""
        found = np.zeros(len(self.places))
        for name, (own, coordinates) in self._by_name.items():
            value = values[name].reshape(-1)
            found[own] = value[coordinates.to(value.device)].double().cpu().numpy()
        return found

    @cached_property
    def _by_name(self) -> dict[str, tuple[list[int], Tensor]]:
        """Which canaries have a parameter, and their coordinates in it."""
        owners: dict[str, list[int]] = {}
        for canary, (name, _) in enumerate(self.places):
            owners.setdefault(name, []).append(canary)
        return {
            name: (own, torch.tensor([self.places[canary][1] for canary in own]))
            for name, own in owners.items()
        }


class Witness(UpdateFilter):
    """Notes what each round shows of canaries, less what everybody else has put there.

    An attacker who knows all users but one knows that much; ledgers reckon with nobody less.

    Args:
        canaries: whose coordinates.
        expected: users that a round's mean is divided by.
    """

    name = "witness"
    sees_each_user = True

    def __init__(self, canaries: Canaries, expected: float) -> None:
        self._canaries = canaries
        self._expected = expected
        self._others = np.zeros(len(canaries.users))
        self.rounds: list[Floats] = []

    def at_user(self, updates: UserUpdates) -> UserUpdates:
        """Note what users that are no canaries hand in."""
        others = ~np.isin(updates.users, self._canaries.users)
        weights = torch.from_numpy(updates.weights * others).double()
        if others.any():
            summed = {
                name: torch.tensordot(weights.to(each.device), each.double(), 1)
                for name, each in updates.change.items()
            }
            self._others += self._canaries.read(summed)
        return updates

    def at_average(self, change: Parameters, weight: int, server_round: int) -> Parameters:
        """Note what is released."""
        self.rounds.append(self._canaries.read(change) * self._expected - self._others)
        self._others = np.zeros(len(self._canaries.users))
        return change


class CanaryTrainer(LocalTrainer):
    """Trains users as any other does, and lets canaries hand in their updates."""

    canaries: Canaries

    def train_each(self, users: UserIndices, key: RoundKey) -> Iterator[UserUpdates]:
        """The users' updates, and then those of the canaries among them."""
        yield from super().train_each(users, key)
        yield from self.canaries.updates(users, self.scope)


class CanaryNode(Node):
    """A node where canaries live, beside the users of the data; for stages without memory."""

    canaries: Canaries

    def trainer(self, stage: Stage) -> LocalTrainer:
        """A trainer of all who live here."""
        trainer = CanaryTrainer(self.model(stage), self.settings, self.windows)
        trainer.canaries = self.canaries
        return trainer


class CanaryRoster(Roster):
    """The node, which answers in this process."""

    def __init__(self, settings: Settings, node: CanaryNode, stage: Stage) -> None:
        super().__init__(settings, cast(Grid, None), False, True, threading.Event())
        work_alone()
        self._node, self._stage = node, stage
        self.homes = {NODE: np.concatenate([node.users, node.canaries.users])}
        self.witness: Witness | None = None

    def look(self) -> list[int]:
        """It is always there."""
        return [NODE]

    def ask(
        self,
        messages: Sequence[Message],
        timeout: float,
        meanwhile: Callable[[], None] = nothing,
    ) -> list[Message]:
        """The node's answers to tasks to train."""
        meanwhile()
        return [self._trained(message) for message in messages]

    def _trained(self, message: Message) -> Message:
        task = Task.from_record(message.content)
        assert task.users is not None
        self._node.load(self._stage, from_array_record(task.scope))
        filters = make_filters(self._node.settings, hints=task.hints)
        if self.witness is not None:
            filters.append(self.witness)
        update = CohortClient(self._node, self._stage, task.users).train(task.round, filters)
        return Message(update_to_record(update), reply_to=message)


class WatchedFedAvg(StageFedAvg):
    """The strategy, with a witness after all of its filters."""

    def __init__(self, witness: Witness, *of: Any) -> None:
        super().__init__(*of)
        self._filters.append(witness)
