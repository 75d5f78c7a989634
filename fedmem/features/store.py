"""Vectors on disk by what they were made from, so that none is made twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedmem.core.arrays import Floats

KEY_SIZE = 32
"""Bytes of a key: the SHA-256 of an encoder's raw input."""


class VectorStore:
    """The vectors of one encoder: a file of records, key and vector, that only ever grows.

    A changed input has another key, and another encoder another file, so nothing here is ever out
    of date. A run that is killed leaves at most a torn record at the end, which the next cuts off.

    Args:
        folder: where the file lies; made if need be.
        identity: of the encoder.
        width: numbers in a vector.
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
        """Vectors [len(keys), width] of keys that are here.

        Raises:
            KeyError: one is not.
        """
        places = self._places()
        vectors: Floats = self._records()["vector"][[places[key] for key in keys]]
        return np.array(vectors, dtype=np.float32)

    def _records(self) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        if self._path.stat().st_size == 0:  # which cannot be mapped
            return np.zeros(0, self._record)
        return np.memmap(self._path, self._record, mode="r")

    def _places(self) -> dict[bytes, int]:
        return {key.tobytes(): place for place, key in enumerate(self._records()["key"])}
