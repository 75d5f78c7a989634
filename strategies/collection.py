"""What a round collects from the nodes: their updates one by one, or what became of their sum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flwr.app import ArrayRecord, Message

from fedmem.core.updates.filter import Reply, UpdateFilter
from fedmem.core.updates.filters import FilterStates, filter_replies, states_of
from fedmem.messaging.messages import payload_bytes
from fedmem.strategies.reply_checks import ReplyChecks

Meanwhile = Callable[[], None]
Tasks = Callable[[Sequence[int]], list[Message]]
"""Makes the round's task for each of these nodes."""


class Ask(Protocol):
    """Sends messages, calls what is to be done meanwhile, and waits for the replies.

    Gives the replies, the bytes that were sent, and the part of them that was the frozen rest.
    """

    def __call__(
        self, messages: Iterable[Message], meanwhile: Meanwhile = ..., /
    ) -> tuple[list[Message], int, int]:
        """Ask."""


@dataclass(frozen=True)
class Round:
    """What a round asks of the nodes.

    Attributes:
        number: from 1.
        scope: the parameters that are sent.
        users: how many each connected node is to train, by node.
        tasks: makes the messages.
        meanwhile: is called while the nodes train.
    """

    number: int
    scope: ArrayRecord
    users: Mapping[int, int]
    tasks: Tasks
    meanwhile: Meanwhile


@dataclass(frozen=True)
class Collected:
    """What came of asking the nodes.

    Attributes:
        usable: the updates to average: each node's, or the one of their sum.
        refused: what was left out, and why.
        nodes: whose updates are in it.
        messages: replies to the tasks.
        bytes_down, bytes_frozen, bytes_up: as of `fedmem.runs.records.RoundRecord`.
    """

    usable: list[Reply] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    nodes: int = 0
    messages: int = 0
    bytes_down: int = 0
    bytes_frozen: int = 0
    bytes_up: int = 0


def payload(messages: Iterable[Message]) -> int:
    """Bytes of messages."""
    return sum(payload_bytes(message.content) for message in messages)


class PlainCollection:
    """Every node's update as it sent it, through the checks and the filters.

    Args:
        ask: how messages are sent.
        checks: of a reply's form.
        filters: of the server.
    """

    def __init__(self, ask: Ask, checks: ReplyChecks, filters: Sequence[UpdateFilter]) -> None:
        self._ask = ask
        self._checks = checks
        self._filters = filters

    def collect(self, asked: Round) -> Collected:
        """Send the tasks of a round and collect what is usable of the replies."""
        replies, sent, frozen = self._ask(asked.tasks(list(asked.users)), asked.meanwhile)
        usable, refused = self._checks.sort_out(replies, asked.users, asked.scope)
        usable, implausible = filter_replies(self._filters, usable)
        return Collected(
            usable,
            [str(refusal) for refusal in [*refused, *implausible]],
            nodes=len(usable),
            messages=len(replies),
            bytes_down=sent,
            bytes_frozen=frozen,
            bytes_up=payload(replies),
        )

    @property
    def state(self) -> FilterStates:
        """What is carried to the next round."""
        return states_of(self._filters)
