"""From items to vectors, batch by batch, going on where an earlier run stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from fedmem.core.errors import FedmemError
from fedmem.features.encoders import Encoder
from fedmem.features.sources import Source, Unreadable
from fedmem.features.store import VectorStore
from fedmem.features.table import Item

Input = TypeVar("Input")


@dataclass
class Encoded:
    """Which items have a vector in the store, and why the others have none."""

    keys: dict[str, bytes] = field(default_factory=dict)
    """In the store, by item id, of every item that has a vector."""
    absent: list[str] = field(default_factory=list)
    """Ids of items that have nothing to encode."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Which picture could not be used and why, by item id."""
    made: int = 0
    """Vectors that were not in the store before."""


def encode_items(
    items: Sequence[Item],
    source: Source[Input],
    encoder: Encoder[Input],
    store: VectorStore,
    batch_size: int,
    advance: Callable[[int], None],
) -> Encoded:
    """Make the vectors that the store lacks; each batch is kept as soon as it is made.

    Args:
        items: in the order in which to go.
        source: of the encoder's inputs.
        encoder: makes the vectors.
        store: of this encoder.
        batch_size: inputs that are encoded at once.
        advance: called with how many more items are done.

    Raises:
        FedmemError: the model gives values that are not finite.
    """
    result = Encoded()
    batch: dict[bytes, Input] = {}
    waiting = 0

    def finish() -> None:
        nonlocal waiting
        if batch:
            vectors = encoder.encode(list(batch.values()))
            if not np.isfinite(vectors).all():
                raise FedmemError("The model gives values that are not finite: use another.")
            store.append(list(batch), vectors)
            result.made += len(batch)
            batch.clear()
        advance(waiting)
        waiting = 0

    for item in items:
        waiting += 1
        try:
            raw = source.raw(item)
            if raw is None:
                result.absent.append(item.id)
                continue
            key = hashlib.sha256(raw).digest()
            if key not in store and key not in batch:
                batch[key] = source.decode(raw)
            result.keys[item.id] = key
        except Unreadable as error:
            result.unreadable[item.id] = f"{item.image}: {error}"
        if len(batch) == batch_size:
            finish()
    finish()
    return result
