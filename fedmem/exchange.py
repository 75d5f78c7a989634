"""One exchange with the nodes: messages out, replies in, who failed, and a way to stop waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from flwr.app import Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

SHORTEST_POLL, LONGEST_POLL = 0.005, 0.25
POLL_SHARE = 0.02
"""Seconds between two looks for replies: this share of the time waited so far. A SuperLink answers
each look by a query of its database."""
GRACE = 5.0
"""Seconds that a message outlives the wait for its reply."""
RESTART_POLL = 5.0
"""Seconds between two looks for nodes that have restarted and lost their message."""


class Interrupted(Exception):
    """The run was asked to stop."""


@dataclass
class Answers:
    """What came of an exchange.

    Attributes:
        replies: of the nodes that answered.
        failed: why each of the others did not, by node id.
    """

    replies: list[Message] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """A line for each node that did not answer."""
        return [f"node {node}: {reason}" for node, reason in sorted(self.failed.items())]


def exchange(
    grid: Grid, messages: Sequence[Message], timeout: float, stop: threading.Event
) -> Answers:
    """Send messages and wait for the replies, at most `timeout` seconds.

    A node that restarts in between has lost its message, and gets it again. Messages expire with
    the wait for them, so that a node that is late does not work for nobody.

    Flower's `send_and_receive` cannot be interrupted and looks for replies every three seconds.

    Raises:
        Interrupted: `stop` was set.
    """
    answers = Answers()
    waiting: dict[str, Message] = {}
    _send(grid, messages, timeout, waiting, answers)
    started = looked = time.monotonic()
    while waiting and (left := started + timeout - time.monotonic()) > 0:
        if stop.is_set():
            raise Interrupted
        for reply in grid.pull_messages(set(waiting)):
            node = waiting.pop(reply.metadata.reply_to_message_id).metadata.dst_node_id
            if reply.has_error():
                answers.failed[node] = failure(reply)
            else:
                answers.replies.append(reply)
        if waiting and time.monotonic() > looked + RESTART_POLL:
            looked = time.monotonic()
            _send_again(grid, left, waiting, answers)
        if waiting:
            share = POLL_SHARE * (time.monotonic() - started)
            time.sleep(min(max(share, SHORTEST_POLL), LONGEST_POLL))
    for message in waiting.values():
        answers.failed[message.metadata.dst_node_id] = f"did not answer in {timeout:g} s"
    return answers


def failure(reply: Message) -> str:
    """Why a node did not answer as it should, from its reply or what Flower says in its place."""
    if reply.error.code == ErrorCode.NODE_UNAVAILABLE:
        return "is gone"
    return "failed: " + " ".join((reply.error.reason or "no reason given").split())


def _send(
    grid: Grid,
    messages: Iterable[Message],
    timeout: float,
    waiting: dict[str, Message],
    answers: Answers,
) -> None:
    messages = list(messages)
    for message in messages:
        message.metadata.ttl = timeout + GRACE
    taken = set(grid.push_messages(messages))
    for message in messages:
        if message.metadata.message_id in taken:
            waiting[message.metadata.message_id] = message
        else:
            answers.failed[message.metadata.dst_node_id] = "is not known to the SuperLink any more"


def _send_again(grid: Grid, timeout: float, waiting: dict[str, Message], answers: Answers) -> None:
    """Send anew what was sent to a node before it was last activated."""
    nodes = {node.node_id: node.last_activated_at for node in grid.get_nodes()}
    lost = {
        key: message
        for key, message in waiting.items()
        if (activated := nodes.get(message.metadata.dst_node_id))
        and datetime.fromisoformat(activated).timestamp() > message.metadata.created_at
    }
    for key in lost:
        del waiting[key]
    fresh = [
        Message(
            content=message.content,
            dst_node_id=message.metadata.dst_node_id,
            message_type=message.metadata.message_type,
        )
        for message in lost.values()
    ]
    if fresh:
        _send(grid, fresh, timeout, waiting, answers)
