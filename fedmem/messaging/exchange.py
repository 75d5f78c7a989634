"""One exchange with the nodes: messages out, replies in, who failed, and a way to stop waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from flwr.app import Message
from flwr.serverapp import Grid

from fedmem.messaging.flower_internals import ErrorCode, parts_of_replies_until
from fedmem.messaging.superlink_internals import held_until

SHORTEST_POLL, LONGEST_POLL = 0.005, 0.25
POLL_SHARE = 0.02
"""Seconds from one look for replies to the next: this share of the time waited so far. A SuperLink
answers each look by a query of its database; one that holds looks takes the time itself."""
SENT, ARRIVED = threading.Event(), threading.Event()
"""For a simulation, which has both sides in one process: that messages were sent, which it may wait
for, and that a reply has arrived, for which it ends a wait between two looks."""
GRACE = 5.0
"""Seconds that a message outlives the wait for its reply."""


class Interrupted(Exception):
    """The run was asked to stop."""


def nothing() -> None:
    """For who has nothing to do while nodes work."""


def exchange(
    grid: Grid,
    messages: Sequence[Message],
    timeout: float,
    stop: threading.Event,
    meanwhile: Callable[[], None] = nothing,
) -> tuple[list[Message], dict[int, str]]:
    """Send messages, do what else there is, and wait for the replies, at most `timeout` seconds.

    Messages expire with the wait for them, so that a node that is late does not work for nobody.

    Flower's `send_and_receive` cannot be interrupted and looks for replies every three seconds.

    Returns:
        The replies of the nodes that answered, and why each of the others did not, by node id.

    Raises:
        Interrupted: `stop` was set.
    """
    for message in messages:
        message.metadata.ttl = timeout + GRACE
    started = time.monotonic()
    end = started + timeout
    taken = set(grid.push_messages(messages))
    SENT.set()
    nodes = {m.metadata.message_id: m.metadata.dst_node_id for m in messages}
    waiting = {key: node for key, node in nodes.items() if key in taken}
    failed = {node: "is not known to the SuperLink" for k, node in nodes.items() if k not in taken}
    replies: list[Message] = []
    meanwhile()
    over = False
    while waiting and not over:
        if stop.is_set():
            raise Interrupted
        # Seen before the look: whoever answered while a broken reply was waited for is heard.
        looked = time.monotonic()
        over = looked >= end
        ARRIVED.clear()
        with parts_of_replies_until(end), held_until(end):
            pulled = grid.pull_messages(set(waiting))
        for reply in pulled:
            node = waiting.pop(reply.metadata.reply_to_message_id)
            if reply.has_error():
                failed[node] = failure(reply)
            else:
                replies.append(reply)
        if waiting and not over:
            pause = min(max(POLL_SHARE * (looked - started), SHORTEST_POLL), LONGEST_POLL)
            ARRIVED.wait(max(looked + pause - time.monotonic(), 0.0))
    failed |= dict.fromkeys(waiting.values(), f"did not answer in {timeout:g} s")
    return replies, failed


def failure(reply: Message) -> str:
    """Why a node did not answer as it should, from its reply or what Flower says in its place."""
    if reply.error.code == ErrorCode.NODE_UNAVAILABLE:
        return "left without an answer"
    if reply.error.code == ErrorCode.MESSAGE_UNAVAILABLE:
        return "its reply did not arrive in full"
    return "failed: " + " ".join((reply.error.reason or "no reason given").split())
