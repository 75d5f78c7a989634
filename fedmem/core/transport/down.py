"""The way down: the server's step, rounded, and the parameters that both sides go on from.

Nodes and server take the same rounded step from the same parameters, so all of them hold the same
bits, under one hash. What rounding leaves of a step is owed, and added to the next one (H. Tang et
al., "DoubleSqueeze: Parallel Stochastic Gradient Descent with Double-pass Error-Compensated
Compression", ICML 2019), where `transport.feedback` is on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from fedmem.core.model.parameters import Parameters, content_hash
from fedmem.core.training.batches import RoundKey
from fedmem.core.transport.codec import Codec, shapes_of, values_of

SERVER = "server"


class Step(NamedTuple):
    """A step of the server as it travels."""

    before: str
    """hash of the parameters that it goes from"""
    after: str
    """hash of those that it leads to"""
    payload: bytes


class StepCoder:
    """Rounds the server's steps, and keeps the latest for nodes that have missed some.

    Args:
        codec: of the run.
        owed: what an earlier process left owed, by parameter name.
    """

    def __init__(self, codec: Codec, owed: Mapping[str, Tensor] | None = None) -> None:
        self._codec = codec
        self.owed: Parameters = dict(owed or {})
        self._steps: deque[Step] = deque()

    def step(self, before: Parameters, after: Parameters, key: RoundKey) -> Parameters:
        """What both sides go on from, where a step would lead from `before` to `after`."""
        if self._codec.exact:
            return after
        wanted = {name: value - before[name] for name, value in after.items()}
        if self.owed:
            wanted = {name: value + self.owed[name] for name, value in wanted.items()}
        rounded = self._codec.round(wanted, key, SERVER)
        taken = values_of(rounded)
        if self._codec.feedback:
            self.owed = {name: value - taken[name] for name, value in wanted.items()}
        reached = moved(before, taken)
        step = Step(content_hash(before), content_hash(reached), self._codec.to_bytes(rounded))
        if self._steps and self._steps[-1].after != step.before:
            self._steps.clear()
        self._steps.append(step)
        while sum(len(each.payload) for each in self._steps) > size_of(after):
            self._steps.popleft()  # a full copy is smaller than all that are kept
        return reached

    def path(self, held: str | None, wanted: str) -> list[Step] | None:
        """The steps from the parameters that a node holds to those wanted, by their hashes.

        None where they are not known, or are more bytes than a full copy.
        """
        if held == wanted:
            return []
        steps = list(self._steps)
        starts = [place for place, each in enumerate(steps) if each.before == held]
        ends = [place for place, each in enumerate(steps) if each.after == wanted]
        return steps[starts[-1] : ends[-1] + 1] or None if starts and ends else None


def moved(parameters: Parameters, step: Mapping[str, Tensor]) -> Parameters:
    """Parameters after a step of the same names: one addition each, the same bits everywhere."""
    return {name: value + step[name] for name, value in parameters.items()}


def take_step(parameters: Parameters, payload: bytes, codec: Codec) -> Parameters:
    """Parameters after a step that the server sent.

    Raises:
        PayloadError: it is damaged, or of another codec.
    """
    return moved(parameters, values_of(codec.from_bytes(payload, shapes_of(parameters))))


def size_of(parameters: Mapping[str, Tensor]) -> int:
    """Bytes of a full copy."""
    return sum(value.numel() * value.element_size() for value in parameters.values())
