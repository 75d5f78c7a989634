"""What a round collects from the nodes: their updates one by one, or what became of their sum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flwr.app import Message

from fedmem.core.model.parameters import Parameters
from fedmem.core.updates.filter import Reply, UpdateFilter
from fedmem.core.updates.filters import FilterStates, filter_replies, states_of
from fedmem.messaging.traffic import Kinds
from fedmem.strategies.parameter_sender import Answers
from fedmem.strategies.reply_checks import ReplyChecks

Meanwhile = Callable[[], None]
Tasks = Callable[[Sequence[int]], list[Message]]
"""Makes the round's task for each of these nodes."""


class Ask(Protocol):
    """Sends messages, calls what is to be done meanwhile, and waits for the replies."""

    def __call__(self, messages: Iterable[Message], meanwhile: Meanwhile = ..., /) -> Answers:
        """Ask."""


@dataclass(frozen=True)
class Round:
    """What a round asks of the nodes.

    Attributes:
        number: from 1.
        parameters: of the scope, that are trained from.
        users: how many each connected node is to train, by node.
        tasks: makes the messages.
        ask: sends them, and others that the round takes.
        meanwhile: is called while the nodes train.
    """

    number: int
    parameters: Parameters
    users: Mapping[int, int]
    tasks: Tasks
    ask: Ask
    meanwhile: Meanwhile


@dataclass(frozen=True)
class Collected:
    """What came of asking the nodes.

    Attributes:
        usable: the updates to average: each node's, or the one of their sum.
        refused: what was left out, and why.
        nodes: whose updates are in it.
        messages: replies to the tasks.
        down: bytes of all messages to the nodes, by kind.
        up: of all replies.
    """

    usable: list[Reply] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    nodes: int = 0
    messages: int = 0
    down: Kinds = field(default_factory=dict)
    up: Kinds = field(default_factory=dict)


class PlainCollection:
    """Every node's update as it sent it, through the checks and the filters.

    Args:
        checks: of a reply's form.
        filters: of the server.
    """

    def __init__(self, checks: ReplyChecks, filters: Sequence[UpdateFilter]) -> None:
        self._checks = checks
        self._filters = filters

    def collect(self, asked: Round) -> Collected:
        """Send the tasks of a round and collect what is usable of the replies."""
        replies, down, up = asked.ask(asked.tasks(list(asked.users)), asked.meanwhile)
        usable, refused = self._checks.sort_out(replies, asked.users, asked.parameters)
        usable, implausible = filter_replies(self._filters, usable)
        return Collected(
            usable,
            [str(refusal) for refusal in [*refused, *implausible]],
            nodes=len(usable),
            messages=len(replies),
            down=down,
            up=up,
        )

    @property
    def state(self) -> FilterStates:
        """What is carried to the next round."""
        return states_of(self._filters)
