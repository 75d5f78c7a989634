"""What the server sends of a scope's parameters to a node: no more than it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord

from fedmem.core.model.parameters import Parameters, content_hash
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.core.training.batches import RoundKey
from fedmem.core.transport.codec import Codec
from fedmem.core.transport.down import StepCoder
from fedmem.messaging.messages import to_array_record, to_coded_record


@dataclass(frozen=True)
class Scope:
    """Parameters of a scope that are on their way to nodes.

    Attributes:
        full: all of them, as they are.
        hash: of their content; empty where they always travel in full.
    """

    full: ArrayRecord
    hash: str


class ParameterSender:
    """Sends the server's steps to nodes that hold what they go from, and full copies to others.

    It knows what a node holds by what it was sent and has answered; a node that lost it says so.

    Args:
        settings: of the run.
        stage: whose scope it is.
        owed: see `StepCoder`.
    """

    def __init__(self, settings: Settings, stage: Stage, owed: Parameters) -> None:
        self._codec = Codec(settings.transport)
        self._steps = StepCoder(self._codec, owed)
        self._seed = settings.seed
        self._stage = stage.name
        self._held: dict[int, str] = {}

    @property
    def owed(self) -> Parameters:
        """What rounding has left of the steps so far."""
        return self._steps.owed

    def step(self, before: Parameters, after: Parameters, server_round: int) -> Parameters:
        """What both sides go on from, where the round's step would lead to `after`."""
        key = RoundKey(self._seed, self._stage, server_round)
        return self._steps.step(before, after, key)

    def scope(self, parameters: Parameters) -> Scope:
        """Parameters to be sent."""
        known = "" if self._codec.exact else content_hash(parameters)
        return Scope(to_array_record(parameters), known)

    def for_node(self, node: int, scope: Scope) -> dict[str, Any]:
        """The fields of a `Task` that bring a scope to a node."""
        if not scope.hash:
            return {"scope": scope.full}
        steps = self._steps.path(self._held.get(node), scope.hash)
        if steps is None:
            return {"scope": scope.full, "path": [scope.hash]}
        return {
            "scope": ArrayRecord(),
            "path": [*(step.before for step in steps), scope.hash],
            "steps": to_coded_record([step.payload for step in steps]),
        }

    def arrived(self, node: int, scope: Scope) -> None:
        """Note that a node has answered, so that it holds what it was sent."""
        self._held[node] = scope.hash
