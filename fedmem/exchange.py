"""One exchange with the nodes: messages out, replies in, and a way to stop waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from flwr.app import Message
from flwr.serverapp import Grid

from fedmem.errors import FedmemError

SHORTEST_POLL, LONGEST_POLL = 0.005, 0.25
POLL_SHARE = 0.02
"""Seconds between two looks for replies: this share of the time waited so far. A SuperLink answers
each look by a query of its database."""


class Interrupted(Exception):
    """The run was asked to stop."""


def exchange(
    grid: Grid, messages: Sequence[Message], timeout: float, stop: threading.Event
) -> list[Message]:
    """Send messages and wait for the replies, at most `timeout` seconds.

    Flower's `send_and_receive` cannot be interrupted and looks for replies ten times a second.

    Raises:
        Interrupted: `stop` was set.
        FedmemError: a node answered with an error.
    """
    waiting = set(grid.push_messages(messages))
    replies: list[Message] = []
    started = time.monotonic()
    while waiting and time.monotonic() < started + timeout:
        if stop.is_set():
            raise Interrupted
        for reply in grid.pull_messages(waiting):
            waiting.discard(reply.metadata.reply_to_message_id)
            if reply.has_error():
                reason = (reply.error.reason or "no reason given").strip()
                raise FedmemError(f"Node {reply.metadata.src_node_id} failed: {reason}")
            replies.append(reply)
        if waiting:
            share = POLL_SHARE * (time.monotonic() - started)
            time.sleep(min(max(share, SHORTEST_POLL), LONGEST_POLL))
    return replies
