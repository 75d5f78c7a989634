"""What messages cost: their bytes, by what they bring."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import Message, RecordDict

from fedmem.messaging.arrays import bytes_of

Kinds = dict[str, int]
"""Bytes by the name of a message's part, as `fedmem.messaging.messages` names them."""


def bytes_by_kind(messages: Iterable[Message]) -> Kinds:
    """Bytes of all messages, by kind."""
    total: Kinds = {}
    for message in messages:
        for kind, count in payload_bytes(message.content).items():
            total[kind] = total.get(kind, 0) + count
    return total


def payload_bytes(record: RecordDict) -> Kinds:
    """Bytes of one message: of arrays, of numbers, of settings as text, and raw."""
    arrays = {
        kind: sum(len(name) + bytes_of(array) for name, array in part.items())
        for kind, part in record.array_records.items()
    }
    numbers = {kind: part.count_bytes() for kind, part in record.metric_records.items()}
    # ConfigRecord counts its own bytes too, but not those of an empty string (Flower 1.41 raises).
    texts = {
        kind: sum(len(key) + _bytes_of(value) for key, value in part.items())
        for kind, part in record.config_records.items()
    }
    return {**arrays, **numbers, **texts}


def _bytes_of(value: object) -> int:
    """Bytes of a setting, or of a list of such."""
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return sum(map(len, value))
    return len(value) if isinstance(value, bytes) else len(repr(value))
