"""All that a message says as one value on the way through a SuperLink.

A SuperLink keeps each record of a message, and each array, as objects of their own, each of which
costs a call when it is sent and again when it is fetched: some hundred for a model, and over a slow
link more time than its bytes. So the ServerApp packs everything into one value, names and all, and
a node answers as it was asked. It is a setting where it is small, which is one object, and an array
where it is large, which Flower sends in parts. A simulation hands messages over in memory and packs
nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid

from fedmem.messaging.flower_internals import (
    ClientAppCallable,
    make_message,
    records_from_bytes,
    records_to_bytes,
)
from fedmem.messaging.superlink_internals import WHOLE, goes_whole, short_way_of

PACKED = "packed"
SMALL = 1 << 20
"""Bytes up to which a message is one object."""
WHOLE_BYTES = 1 << 24
"""Of messages that are sent whole at a time: a SuperLink reads them at each look for a reply."""


def pack(content: RecordDict) -> RecordDict:
    """The content as one value."""
    data = records_to_bytes(content)
    if len(data) <= SMALL:
        return RecordDict({PACKED: ConfigRecord({PACKED: data})})
    return RecordDict({PACKED: ArrayRecord({PACKED: Array(np.frombuffer(data, np.uint8))})})


def unpack(content: RecordDict) -> RecordDict:
    """The inverse of `pack`; what is not packed, or damaged, stays as it is."""
    if is_packed(content):
        value = content[PACKED][PACKED]
        data = value.numpy().tobytes() if isinstance(value, Array) else value
        with contextlib.suppress(ValueError):  # whoever reads it misses the names that it wants
            return records_from_bytes(cast(bytes, data))
    return content


def is_packed(content: RecordDict) -> bool:
    """Whether it is packed."""
    if set(content) != {PACKED} or set(content[PACKED]) != {PACKED}:
        return False
    return isinstance(content[PACKED][PACKED], Array | bytes)


def answer_as_asked(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A mod of the ClientApp: unpacks what is packed, and packs the reply to it."""
    if not is_packed(message.content):
        return call_next(message, context)
    message.content = unpack(message.content)
    reply = call_next(message, context)
    if reply.has_content():
        reply.content = pack(reply.content)
    return reply


def pack_messages_of(grid: Grid) -> None:
    """Let a grid pack what it sends and unpack what it receives, and send small messages whole to
    nodes whose last reply was whole.
    """
    push, pull, short_way = grid.push_messages, grid.pull_messages, short_way_of(grid)
    read_whole: set[int] = set()

    def push_packed(messages: Iterable[Message]) -> Iterable[str]:
        whole, in_parts, room = list[Message](), list[Message](), WHOLE_BYTES
        for message in messages:
            message.metadata.group_id = WHOLE
            # The metadata are shared: the grid gives the message its id there.
            packed = make_message(message.metadata, content=pack(message.content))
            if packed.metadata.dst_node_id in read_whole and goes_whole(packed) and room > 0:
                whole.append(packed)
                room -= len(cast(bytes, packed.content[PACKED][PACKED]))
            else:
                in_parts.append(packed)
        read_whole.difference_update(each.metadata.dst_node_id for each in whole)
        taken = short_way.push(whole) if short_way and whole else []
        return [*taken, *push(in_parts)] if in_parts else taken

    def pull_unpacked(message_ids: Iterable[str]) -> Iterable[Message]:
        whole, in_parts = short_way.pull(message_ids) if short_way else ([], pull(message_ids))
        read_whole.update(reply.metadata.src_node_id for reply in whole)
        replies = [*whole, *in_parts]
        for reply in replies:
            if reply.has_content():
                reply.content = unpack(reply.content)
        return replies

    vars(grid).update(push_messages=push_packed, pull_messages=pull_unpacked)
