"""Many arrays as one on the way through a SuperLink.

A SuperLink keeps each array of a message as two objects of its own, each of which costs it a call
and a write when it is sent and again when it is fetched: some hundred for a model. So the ServerApp
packs every record of arrays into one array, names and all, and a node answers as it was asked. A
simulation hands messages over in memory and packs nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.serverapp import Grid

from fedmem.messaging.flower_internals import (
    ClientAppCallable,
    array_record_from_bytes,
    array_record_to_bytes,
    make_message,
)

PACKED = "packed"


def pack(content: RecordDict) -> RecordDict:
    """The content with each record of arrays as one array."""
    packed = RecordDict(dict(content))
    for name, record in content.array_records.items():
        data = array_record_to_bytes(record)
        packed[name] = ArrayRecord({PACKED: Array(np.frombuffer(data, np.uint8))})
    return packed


def unpack(content: RecordDict) -> RecordDict:
    """The inverse of `pack`; a record that is not packed, or damaged, stays as it is."""
    unpacked = RecordDict(dict(content))
    for name, record in content.array_records.items():
        if set(record) == {PACKED}:
            with contextlib.suppress(ValueError):  # whoever reads it misses the names that it wants
                unpacked[name] = array_record_from_bytes(record[PACKED].numpy().tobytes())
    return unpacked


def is_packed(content: RecordDict) -> bool:
    """Whether any of the records is packed."""
    return any(set(record) == {PACKED} for record in content.array_records.values())


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
    """Let a grid pack what it sends and unpack what it receives."""
    push, pull = grid.push_messages, grid.pull_messages

    def push_packed(messages: Iterable[Message]) -> Iterable[str]:
        # The metadata are shared: the grid gives the message its id there.
        return push([make_message(m.metadata, content=pack(m.content)) for m in messages])

    def pull_unpacked(message_ids: Iterable[str]) -> Iterable[Message]:
        replies = list(pull(message_ids))
        for reply in replies:
            if reply.has_content():
                reply.content = unpack(reply.content)
        return replies

    vars(grid).update(push_messages=push_packed, pull_messages=pull_unpacked)
