"""From items to vectors on disk, batch by batch, going on where an earlier run stopped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedmem.core.arrays import Floats
from fedmem.core.errors import FedmemError
from fedmem.features.encoders import Encoder
from fedmem.features.pictures import Unreadable
from fedmem.features.sources import Pictures, Texts
from fedmem.features.table import Item

KEY_SIZE = 32
"""Bytes of a key: the SHA-256 of an encoder's raw input, and of the way it is made of it."""


class VectorStore:
    """The vectors of one encoder: a file of records, key and vector, that only ever grows.

    A changed input has another key, and another encoder another file, so nothing here is ever out
    of date. A run that is killed leaves at most a torn record at the end, which the next cuts off.

    The file lies in `folder`, made if need be, under the `identity` of the encoder, whose vectors
    have `width` numbers.
    """

    def __init__(self, folder: Path, identity: str, width: int) -> None:
        self._path = folder / f"{identity}.vectors"
        self._record = np.dtype([("key", "V", KEY_SIZE), ("vector", "<f4", (width,))])
        folder.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.truncate(file.tell() // self._record.itemsize * self._record.itemsize)
        self._known = set(self._places())

    def __contains__(self, key: bytes) -> bool:
        return key in self._known

    def append(self, keys: Sequence[bytes], vectors: Floats) -> None:
        """Keep vectors [len(keys), width], all at once."""
        records = np.zeros(len(keys), self._record)
        records["key"] = np.frombuffer(b"".join(keys), dtype=("V", KEY_SIZE))
        records["vector"] = vectors
        with self._path.open("ab") as file:
            file.write(records.tobytes())
        self._known.update(keys)

    def take(self, keys: Sequence[bytes]) -> Floats:
        """Vectors [len(keys), width] of keys that are all here."""
        places = self._places()
        vectors: Floats = self._records()["vector"][[places[key] for key in keys]]
        return np.array(vectors, dtype=np.float32)

    def _records(self) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        if self._path.stat().st_size == 0:  # which cannot be mapped
            return np.zeros(0, self._record)
        return np.memmap(self._path, self._record, mode="r")

    def _places(self) -> dict[bytes, int]:
        return {key.tobytes(): place for place, key in enumerate(self._records()["key"])}


@dataclass
class Encoded:
    """By item id: the key of its vector in the store, or why it has none."""

    keys: dict[str, bytes] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    """Items that have nothing to encode."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Which picture could not be used and why."""
    made: int = 0
    """Vectors that were not in the store before."""


def encode_items(
    items: Sequence[Item],
    source: Texts | Pictures,
    encoder: Encoder,
    store: VectorStore,
    batch_size: int,
    advance: Callable[[int], None],
) -> Encoded:
    """Make the vectors that the store lacks, in the items' order; each batch is kept at once.

    `advance` is called with how many more items are done.

    Raises:
        FedmemError: the model gives values that are not finite.
    """
    result = Encoded()
    batch: dict[bytes, Any] = {}
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
            key = hashlib.sha256(source.way + raw).digest()
            if key not in store and key not in batch:
                batch[key] = source.decode(raw)
            result.keys[item.id] = key
        except Unreadable as error:
            result.unreadable[item.id] = f"{item.image}: {error}"
        if len(batch) == batch_size:
            finish()
    finish()
    return result
