"""The way down: the round's mean change, rounded, of which both sides make the same step.

Server and nodes run the same optimizer from the same parameters along the same rounded change, so
all of them hold the same bits, under one hash. Rounding a change costs less than rounding the step
that an optimizer makes of it: Adam's steps are of one size, and what is left of them would be noise
in the parameters. What rounding leaves is owed, and added to the next change (H. Tang et al.,
"DoubleSqueeze: Parallel Stochastic Gradient Descent with Double-pass Error-Compensated
Compression", ICML 2019), where `transport.feedback` is on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from fedmem.core.model.parameters import Parameters
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.core.training.batches import RoundKey
from fedmem.core.transport.codec import Codec, values_of

SERVER = "server"
OPTIMIZER = "optimizer/"
"""Before the names of the optimizer's tensors, among those that both sides hold."""


class Step(NamedTuple):
    """A step of the server as it travels."""

    before: str
    """hash of what is held before it"""
    after: str
    """hash of what is held after it"""
    pace: float
    """see `fedmem.runs.schedule`"""
    payload: bytes
    """the change that it is made along"""


class ChangeCoder:
    """Rounds the server's mean changes.

    Args:
        codec: of the run.
        owed: what an earlier process left owed, by parameter name.
    """

    def __init__(self, codec: Codec, owed: Mapping[str, Tensor]) -> None:
        self._codec = codec
        self.owed: Parameters = dict(owed)

    def __call__(self, change: Parameters, key: RoundKey) -> tuple[Parameters, bytes]:
        """The change that both sides make a step along, and its payload. What was given is used up:
        what is owed is made where it lies.
        """
        for name, owed in self.owed.items():
            change[name] = change[name].add_(owed)
        rounded = self._codec.round(change, key, SERVER)
        taken = values_of(rounded)
        if self._codec.feedback:
            self.owed = {name: value.sub_(taken[name]) for name, value in change.items()}
        return taken, self._codec.to_bytes(rounded)


class Steps:
    """The latest steps of the server, for nodes that have missed some.

    No more are kept than are smaller than a full copy of what is held.
    """

    def __init__(self) -> None:
        self._steps: deque[Step] = deque()

    def append(self, step: Step, full: int) -> None:
        """Keep a step, where a full copy takes so many bytes."""
        if self._steps and self._steps[-1].after != step.before:
            self._steps.clear()
        self._steps.append(step)
        while sum(len(each.payload) for each in self._steps) > full:
            self._steps.popleft()

    def path(self, held: str | None, wanted: str) -> list[Step] | None:
        """The steps from what a node holds to what is wanted, by their hashes; None: unknown."""
        if held == wanted:
            return []
        steps = list(self._steps)
        starts = [place for place, each in enumerate(steps) if each.before == held]
        ends = [place for place, each in enumerate(steps) if each.after == wanted]
        return steps[starts[-1] : ends[-1] + 1] or None if starts and ends else None


def starts_by_itself(settings: Settings, stage: Stage) -> bool:
    """Whether a node can make what a stage starts from, without being sent it."""
    return stage.makes_table and settings.model.item_start == "random"


def joined(parameters: Mapping[str, Tensor], optimizer: Mapping[str, Tensor]) -> Parameters:
    """What both sides hold: the scope's parameters, and the state of the optimizer."""
    return {**parameters, **{OPTIMIZER + name: value for name, value in optimizer.items()}}


def parted(held: Mapping[str, Tensor]) -> tuple[Parameters, Parameters]:
    """The inverse of `joined`."""
    parameters = {name: value for name, value in held.items() if not name.startswith(OPTIMIZER)}
    state = {
        name.removeprefix(OPTIMIZER): value
        for name, value in held.items()
        if name.startswith(OPTIMIZER)
    }
    return parameters, state


def size_of(held: Mapping[str, Tensor]) -> int:
    """Bytes of a full copy."""
    return sum(value.numel() * value.element_size() for value in held.values())
