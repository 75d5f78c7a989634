"""The memories of all users of one node, in the form that is kept between messages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fedmem.data import Interactions
from fedmem.memory.two_tier import Floats, Ints, MemoryState, MemoryStatistics, TwoTierMemory
from fedmem.settings import MemorySettings

Packed = dict[str, npt.NDArray[np.int32]]


class MemoryBank:
    """Memories by user, each behind its own cursor.

    Args:
        settings: rules of every memory.
        threshold: novelty from which an item is written.
        vectors: [I + 1, W] from `item_vectors`.
        interactions: the histories that the memories are filled from.
    """

    def __init__(
        self,
        settings: MemorySettings,
        threshold: float,
        vectors: Floats,
        interactions: Interactions,
    ) -> None:
        self._settings = settings
        self.threshold = threshold
        self._vectors = vectors
        self._without_content = np.linalg.norm(vectors, axis=1) == 0
        self._interactions = interactions
        self._states: dict[int, MemoryState] = {}
        self._surprises: dict[int, Ints] = {}

    @cached_property
    def rules(self) -> str:
        """Hash of all that decides what a memory holds, besides the history."""
        digest = hashlib.sha256(json.dumps(asdict(self._settings), sort_keys=True).encode())
        digest.update(repr((self.threshold, self._interactions.fingerprint)).encode())
        digest.update(np.ascontiguousarray(self._vectors).tobytes())
        return digest.hexdigest()[:16]

    def cursor(self, user: int) -> int:
        """Interactions of the user ingested so far."""
        return int(self._states[user].counters[0]) if user in self._states else 0

    def open_losses(self, user: int, end: int) -> npt.NDArray[np.int64]:
        """Positions before `end`, not ingested yet, whose items have no content: `ingest` wants the
        model's loss on them.
        """
        start = self.cursor(user)
        items = self._interactions.history(user)[start:end]
        return np.flatnonzero(self._without_content[items]) + start

    def ingest(self, user: int, end: int, losses: Mapping[int, float] | None = None) -> None:
        """Ingest the user's interactions from the cursor up to position `end`, exclusive.

        Args:
            user: index of the user.
            end: positions below it are ingested; nothing happens if they are already.
            losses: the model's losses by position, for those of `open_losses`; absent: 0.
        """
        start = self.cursor(user)
        if end <= start:
            return
        memory = TwoTierMemory(
            self._settings, self.threshold, self._vectors, self._states.get(user)
        )
        by_offset = np.zeros(end - start)
        for position, loss in (losses or {}).items():
            if not start <= position < end:
                raise ValueError(f"position {position} is not ingested now: {start} to {end}")
            by_offset[position - start] = loss
        memory.extend(self._interactions.history(user)[start:end], by_offset)
        self._states[user] = memory.state
        surprising = np.array(
            [p for p in losses or {} if by_offset[p - start] >= self._settings.surprise_threshold],
            dtype=np.int32,
        )
        before = self._surprises.get(user, np.zeros(0, np.int32))
        self._surprises[user] = np.concatenate([before, surprising])

    def retrieve(self, user: int) -> Ints:
        """Items [top_k] that the user's memory gives now, 0 where there is no entry."""
        memory = TwoTierMemory(
            self._settings, self.threshold, self._vectors, self._states.get(user)
        )
        return memory.retrieve()[0]

    def replay(self, user: int, positions: npt.NDArray[np.integer]) -> Ints:
        """Items [n, top_k] that the memory gave just before each of the ascending positions [n].

        The memory at a position holds only what came before it. It is built again from the
        history, which takes less room than keeping it for every position.
        """
        end = int(positions[-1]) if len(positions) else 0
        losses = np.zeros(end)
        surprises = self._surprises.get(user, np.zeros(0, np.int32))
        losses[surprises[surprises < end]] = np.inf
        memory = TwoTierMemory(self._settings, self.threshold, self._vectors)
        return memory.extend(self._interactions.history(user)[:end], losses, read_at=positions)

    def statistics(self) -> MemoryStatistics:
        """Sums over all memories."""
        each = [
            TwoTierMemory(self._settings, self.threshold, self._vectors, state).statistics()
            for state in self._states.values()
        ]
        names = MemoryStatistics.__dataclass_fields__
        return MemoryStatistics(**{n: sum(getattr(s, n) for s in each) for n in names})

    def pack(self) -> Packed:
        """All memories as a few arrays of int32: a user's parts stand one after the other.

        `lengths` [U, 3] gives the sizes of each user's ST, LT and surprises.
        """
        users = sorted(self._states)
        states = [self._states[u] for u in users]
        surprises = [self._surprises[u] for u in users]
        lengths = [
            (len(s.short_term), len(s.long_term), len(x))
            for s, x in zip(states, surprises, strict=True)
        ]
        return {
            "users": np.array(users, dtype=np.int32),
            "lengths": np.array(lengths, dtype=np.int32).reshape(-1, 3),
            "counters": np.array([s.counters for s in states], dtype=np.int32).reshape(-1, 5),
            "short_term": np.concatenate(
                [np.zeros(0, np.int32), *(s.short_term for s in states)], dtype=np.int32
            ),
            "long_term": np.concatenate(
                [np.zeros((0, 3), np.int32), *(s.long_term for s in states)], dtype=np.int32
            ),
            "surprises": np.concatenate([np.zeros(0, np.int32), *surprises], dtype=np.int32),
        }

    def unpack(self, packed: Packed) -> None:
        """Take the memories that `pack` gave, in place of any that are here."""
        st_ends, lt_ends, surprise_ends = np.cumsum(packed["lengths"], axis=0).T
        self._states = {}
        self._surprises = {}
        for row, user in enumerate(packed["users"]):
            st, lt, surprises = packed["lengths"][row]
            self._states[int(user)] = MemoryState(
                packed["counters"][row],
                packed["short_term"][st_ends[row] - st : st_ends[row]],
                packed["long_term"][lt_ends[row] - lt : lt_ends[row]],
            )
            self._surprises[int(user)] = packed["surprises"][
                surprise_ends[row] - surprises : surprise_ends[row]
            ]
