"""What the server sends of a stage's parameters to a node: no more than it lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from flwr.app import ArrayRecord, Message, RecordDict

from fedmem.core.model.parameters import Parameters, content_hash
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.core.training.batches import RoundKey
from fedmem.core.transport.codec import Codec
from fedmem.core.transport.down import ChangeCoder, Step, Steps, joined, size_of, starts_by_itself
from fedmem.messaging.exchange import nothing
from fedmem.messaging.messages import NeedsFrozen, NeedsScope, to_array_record, to_coded_record
from fedmem.messaging.roster import Roster
from fedmem.messaging.traffic import Kinds, bytes_by_kind
from fedmem.runs.stage_progress import StageProgress


@dataclass(frozen=True)
class Scope:
    """Parameters of a scope that are on their way to nodes.

    Attributes:
        held: all of them, and of the optimizer's state what is needed to step on from them.
        hash: of their content; empty where they always travel in full.
    """

    held: Parameters
    hash: str

    @cached_property
    def full(self) -> ArrayRecord:
        """All of it, as it is; made for the first node that needs it."""
        return to_array_record(self.held)


class Answers(NamedTuple):
    """Replies of nodes, and what they and the messages to them cost."""

    replies: list[Message]
    down: Kinds
    up: Kinds


class ParameterSender:
    """Sends the frozen rest once, and the server's steps to nodes that hold what they go from.

    It knows what a node holds by what it was sent and has answered, or can make from the seed. A
    node that lost it, or cannot, says so, and is asked again with all of it.

    Args:
        settings: of the run.
        stage: whose parameters they are.
        roster: the nodes.
        frozen: parameters outside the scope.
        progress: where the stage stands.
    """

    def __init__(
        self,
        settings: Settings,
        stage: Stage,
        roster: Roster,
        frozen: Parameters,
        progress: StageProgress,
    ) -> None:
        self._settings = settings
        self._stage = stage.name
        self._roster = roster
        self._frozen = to_array_record(frozen)
        self._frozen_hash = content_hash(frozen)
        self._informed: set[int] = set()
        self._codec = Codec(settings.transport)
        self._coder = ChangeCoder(self._codec, progress.owed)
        self._steps = Steps()
        self._payload = b""
        self._held: dict[int, str] = {}
        self._parameters, self._optimizer = progress.parameters, progress.optimizer
        self._hash = self._hash_of_current()
        fresh = progress.round <= 0 and starts_by_itself(settings, stage)
        self._start = self._hash if fresh else None

    @property
    def owed(self) -> Parameters:
        """What rounding has left of the changes so far."""
        return self._coder.owed

    def rounded(self, change: Parameters, server_round: int) -> Parameters:
        """The change that both sides step along, in place of a round's mean change."""
        if self._codec.exact:
            return change
        key = RoundKey(self._settings.seed, self._stage, server_round)
        change, self._payload = self._coder(change, key)
        return change

    def stepped(self, parameters: Parameters, optimizer: Parameters, pace: float) -> None:
        """Note where a step along what was `rounded` last has led."""
        self._parameters, self._optimizer = parameters, optimizer
        if self._codec.exact:
            return
        before, self._hash = self._hash, self._hash_of_current()
        full = size_of(joined(parameters, optimizer))
        self._steps.append(Step(before, self._hash, pace, self._payload), full)

    def scope(self, parameters: Parameters) -> Scope:
        """Parameters to be sent: those after the latest step, or others, to be evaluated."""
        if self._codec.exact:
            return Scope(parameters, "")
        if parameters is self._parameters:
            return Scope(joined(parameters, self._optimizer), self._hash)
        return Scope(parameters, content_hash(parameters))

    def _hash_of_current(self) -> str:
        held = joined(self._parameters, self._optimizer)
        return "" if self._codec.exact else content_hash(held)

    def fields_for(self, node: int, scope: Scope) -> dict[str, Any]:
        """The fields of a `Task` that bring parameters; on first contact the frozen rest too."""
        first_contact = node not in self._informed
        self._informed.add(node)
        frozen = self._frozen if first_contact else None
        fields = {"frozen_hash": self._frozen_hash, "frozen": frozen}
        if not scope.hash:
            return {**fields, "scope": scope.full}
        steps = self._steps.path(self._held.get(node, self._start), scope.hash)
        if steps is None:
            return {**fields, "scope": scope.full, "path": [scope.hash]}
        return {
            **fields,
            "scope": ArrayRecord(),
            "path": [*(step.before for step in steps), scope.hash],
            "paces": [step.pace for step in steps],
            "steps": to_coded_record([step.payload for step in steps]),
        }

    def ask(
        self, scope: Scope, messages: Iterable[Message], meanwhile: Callable[[], None] = nothing
    ) -> Answers:
        """Send messages, those that are tasks with the scope, and wait for their replies.

        Raises:
            FedmemError: a simulated node failed.
            Interrupted: the run was asked to stop.
        """
        sent, timeout = list(messages), self._settings.strategy.round_timeout
        replies = self._roster.ask(sent, timeout, meanwhile)
        lacking = {r.metadata.src_node_id: self._lacking(r.content, scope) for r in replies}
        again = [
            Message(
                content=RecordDict({**message.content, **lacking[message.metadata.dst_node_id]}),
                dst_node_id=message.metadata.dst_node_id,
                message_type=message.metadata.message_type,
            )
            for message in sent
            if lacking.get(message.metadata.dst_node_id)
        ]
        if again:
            replies = [r for r in replies if not lacking[r.metadata.src_node_id]]
            replies += self._roster.ask(again, timeout)
        tasked = {message.metadata.dst_node_id for message in sent if "scope" in message.content}
        answered = {reply.metadata.src_node_id for reply in replies}
        self._held |= dict.fromkeys(tasked & answered, scope.hash)
        return Answers(replies, bytes_by_kind([*sent, *again]), bytes_by_kind(replies))

    def _lacking(self, reply: RecordDict, scope: Scope) -> dict[str, ArrayRecord]:
        """What a node says that it lacks, as parts of the message to it."""
        lacking = {}
        if NeedsFrozen.is_in(reply):
            lacking["frozen"] = self._frozen
        if NeedsScope.is_in(reply):
            lacking |= {"scope": scope.full, "steps": ArrayRecord()}
        return lacking
