"""Flower's private parts: the short way of small messages through a SuperLink.

On Flower's own way a message is a head, which names its parts, and parts that are sent, fetched and
confirmed by a call each; and whoever waits looks again and again. Over a slow link that is a trip a
call, and at the SuperLink, which is one process, some ten milliseconds a call. Here a message that
is small has its content in its head, where Flower's protocol has a place for it, and calls for
messages are held until there are some (`fedmem.messaging.held_calls`).

Both sides find out whether the other does the same: a server says of each message, by its group,
that it may be answered whole; who does so is sent whole messages; and a SuperLink that does not
hold a call answers it at once. What stays at the SuperLink of a whole message is its name, until
the run has ended.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import httpx
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.proto.runtime_pb2 import (
    PullAppMessagesRequest,
    PullAppMessagesResponse,
    PushAppMessagesRequest,
)
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from google.protobuf.message import DecodeError

from fedmem.messaging.held_calls import HOLD, LONGEST_HOLD, MOST_COUNTED, HeldCalls, Scope

WHOLE = "whole"
"""The group of messages that may be answered whole."""
PULL = "/PullMessages"
PULLS = {
    "/v1/fleet/pull-messages": PullMessagesRequest,
    "/v1/runtime/pull-messages": PullAppMessagesRequest,
}


@contextlib.contextmanager
def replaced(module: ModuleType, **new: Any) -> Iterator[None]:
    """Names of a module that mean something else for a while."""
    before = {name: vars(module)[name] for name in new}
    vars(module).update(new)
    try:
        yield
    finally:
        vars(module).update(before)


def is_whole(message: Message) -> bool:
    """Whether a message, or the head of one, has its content with it."""
    return message.has_content() and bool(message.content)


def goes_whole(message: Message) -> bool:
    """Whether a message has leave to go whole, and is small enough for it: has no arrays, which may
    be large.
    """
    leave = message.metadata.group_id == WHOLE and is_whole(message)
    return leave and len(message.content.config_records) == len(message.content)


def stripped(message: Message) -> Message:
    """The head of a message that goes to a SuperLink, in place of Flower's own, which has nothing
    of the content.
    """
    return message if goes_whole(message) else remove_content_from_message(message)


def tree_of_whole(message: Message) -> ObjectTree:
    """The parts of a whole message: itself. It is never fetched."""
    return ObjectTree(object_id=message.metadata.message_id)


class HeldLooks:
    """An interceptor of Flower's client: looks for messages ask to be held.

    Attributes:
        until: by `time.monotonic`; to hold a look for longer makes no sense.
        held: whether the last look was to a SuperLink that holds them.
    """

    def __init__(self, until: float = float("inf")) -> None:
        self.until = until
        self.held = False

    def intercept(self, context: Any, call_next: Any) -> httpx.Response:
        """As an interceptor of Flower's client for protobuf."""
        response: httpx.Response
        if not context.rpc_method.endswith(PULL):
            response = call_next(context)
            return response
        seconds = min(self.until - time.monotonic(), LONGEST_HOLD)
        if seconds > 0:
            context.request.headers[HOLD] = f"{seconds:.3f}"
        self.held = False
        response = call_next(context)
        self.held = HOLD in response.headers
        return response


class _WholeReplies:
    """An interceptor of a grid's client: keeps whole replies, and leaves it those in parts."""

    def __init__(self) -> None:
        self.found: list[Message] = []

    def intercept(self, context: Any, call_next: Any) -> httpx.Response:
        """As an interceptor of Flower's client for protobuf."""
        response: httpx.Response = call_next(context)
        if not context.rpc_method.endswith(PULL) or response.is_error:
            return response
        pulled, in_parts = PullAppMessagesResponse.FromString(response.content), []
        for head, tree in zip(pulled.messages_list, pulled.message_object_trees, strict=True):
            message = message_from_proto(head)
            if is_whole(message):
                self.found.append(message)
            else:
                in_parts.append((head, tree))
        rest = PullAppMessagesResponse(
            messages_list=[head for head, _ in in_parts],
            message_object_trees=[tree for _, tree in in_parts],
        )
        content = rest.SerializeToString()
        return httpx.Response(response.status_code, content=content, request=response.request)


class ShortWay:
    """The short way of a ServerApp's grid to its nodes.

    Args:
        grid: Flower's, to a SuperLink by HTTP. What it was asked to do before it does as before.
    """

    def __init__(self, grid: Any) -> None:
        self._client = grid._runtime_client
        self._pull = grid.pull_messages
        self._replies, self._looks = _WholeReplies(), HeldLooks(0.0)
        self._client._interceptors += (self._looks, self._replies)

    def push(self, messages: Sequence[Message]) -> list[str]:
        """Send messages whole; the ids of those that were taken."""
        for message in messages:
            message.metadata.__dict__["_message_id"] = message.object_id
        request = PushAppMessagesRequest(
            messages_list=[message_to_proto(message) for message in messages],
            message_object_trees=[tree_of_whole(message) for message in messages],
        )
        return list(self._client.PushMessages(request).message_ids)

    def pull(self, message_ids: Iterable[str]) -> tuple[list[Message], list[Message]]:
        """The replies that have come: whole, and in parts."""
        self._looks.until = _hold_until
        in_parts = list(self._pull(message_ids))
        whole, self._replies.found = self._replies.found, []
        return whole, in_parts


def short_way_of(grid: Any) -> ShortWay | None:
    """The short way of a grid; None: it goes through no SuperLink, or to one by another way."""
    from flwr.superlink.grid.http_grid import HttpGrid

    return ShortWay(grid) if isinstance(grid, HttpGrid) else None


_hold_until = 0.0


@contextlib.contextmanager
def held_until(end: float) -> Iterator[None]:
    """Let looks for replies be held, until `end` by `time.monotonic` at the latest."""
    global _hold_until
    before, _hold_until = _hold_until, end
    try:
        yield
    finally:
        _hold_until = before


@contextlib.contextmanager
def superlink_that_holds_calls() -> Iterator[None]:
    """Let a SuperLink that is started meanwhile hold calls for messages."""
    from flwr.superlink import extensions
    from starlette.middleware import Middleware

    found = extensions.get_middleware
    held = Middleware(HeldCalls, wanted=_wanted, brought=_Arrivals())
    with replaced(extensions, get_middleware=lambda: (held, *found())):
        yield


def _wanted(path: str, body: bytes) -> set[str] | None:
    """The node whose messages a call looks for, or the messages whose replies."""
    if path not in PULLS:
        return None
    try:
        request = PULLS[path].FromString(body)
    except DecodeError:
        return None  # Flower says so
    if isinstance(request, PullMessagesRequest):
        return {str(request.node.node_id)}
    return set(request.message_ids)


class _Arrivals:
    """How many messages calls have brought to each node, and replies to each message: those in
    parts once all of them are there.
    """

    def __init__(self) -> None:
        self._missing: dict[str, tuple[str, set[str]]] = {}  # for whom, and parts, by message

    def __call__(self, scope: Scope) -> Mapping[str, int]:
        """What a call has brought, by its scope; none yet to a message that it has brought."""
        request = scope.get("state", {}).get("protobuf_request")  # as Flower's middleware read it
        brought = Counter[str]()
        if isinstance(request, PushAppMessagesRequest | PushMessagesRequest):
            pushed = zip(request.messages_list, request.message_object_trees, strict=False)
            for message, tree in pushed:
                about, parts = message.metadata, set[str]()
                node, replied = str(about.dst_node_id), about.reply_to_message_id
                if not replied:
                    brought[about.message_id] = 0
                if not message.content.items:
                    parts = {part.object_id for part in iterate_object_tree(tree)}
                self._missing[about.message_id] = (replied or node, parts)
        elif isinstance(request, PushObjectRequest):
            for _, parts in self._missing.values():
                parts.discard(request.object_id)
        there = [name for name, (_, parts) in self._missing.items() if not parts]
        brought.update(self._missing.pop(name)[0] for name in there)
        while len(self._missing) > MOST_COUNTED:
            del self._missing[next(iter(self._missing))]
        return brought
