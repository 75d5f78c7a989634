"""The memories of all users of one node, in the form that is kept between messages."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import Ints, Places, Positions, UserIndices, offsets_of, ranges
from fedmem.core.data.ids import fingerprint
from fedmem.core.memory import kernel
from fedmem.core.memory.novelty import Novelties
from fedmem.core.memory.two_tier import MemoryStatistics, rules_of
from fedmem.core.settings import MemorySettings

Packed = dict[str, Ints]


class MemoryBank:
    """Memories by user, each behind its own cursor, which write from a threshold of novelty on.

    Kept are, of every user, the counters and the long-term entries, and where items without content
    surprised. The short-term tier is the stretch of the history that ends at the cursor, and how
    many entries and surprises a user has follows from the counters.
    """

    def __init__(self, settings: MemorySettings, threshold: float, novelties: Novelties) -> None:
        self._settings = settings
        self.threshold = threshold
        self._novelties = novelties
        self._interactions = novelties.interactions
        self._first = self._interactions.offsets[:-1]
        self._counters = np.zeros((self._interactions.num_users, 5), dtype=np.int32)
        self._long_term = np.zeros((0, 3), dtype=np.int32)
        self._surprising = np.zeros(len(self._interactions.items), dtype=np.bool_)
        self._stamp: str | None = None

    @cached_property
    def rules(self) -> str:
        """Hash of all that decides what a memory holds, besides the history, and of whose it is."""
        digest = hashlib.sha256(json.dumps(asdict(self._settings), sort_keys=True).encode())
        digest.update(repr((self.threshold, self._interactions.fingerprint)).encode())
        digest.update(fingerprint(self._interactions.user_ids).encode())  # not by index alone
        digest.update(self._novelties.catalogue.vectors.tobytes())
        return digest.hexdigest()[:16]

    @property
    def stamp(self) -> str:
        """Hash of all that the memories hold; computed once after they changed."""
        if self._stamp is None:
            whole = b"".join(array.tobytes() for array in self.pack().values())
            self._stamp = hashlib.sha256(whole).hexdigest()[:16]
        return self._stamp

    def cursors(self, users: UserIndices) -> Ints:
        """Interactions [U] of the users ingested so far."""
        cursors: Ints = self._counters[users, kernel.INGESTED]
        return cursors

    def open_losses(self, users: UserIndices, ends: Positions) -> Places:
        """Places in `Interactions.items` that `ingest` wants the model's losses on.

        They are those before the users' positions `ends` [U], not ingested yet, whose items have no
        content; user by user, in time order.
        """
        cursors = self.cursors(users)
        places = ranges(self._first[users] + cursors, np.maximum(ends - cursors, 0))
        items = self._interactions.items[places]
        return places[~self._novelties.catalogue.has_content[items]]

    def ingest(
        self, users: UserIndices, ends: Positions, losses: npt.NDArray[np.floating] | None = None
    ) -> None:
        """Ingest the users' [U] interactions from their cursors up to positions `ends` [U].

        Those at or behind a cursor change nothing. The losses are the model's at the places of
        `open_losses`; None: zeros.
        """
        if losses is not None:
            places = self.open_losses(users, ends)
            if len(losses) != len(places):
                raise ValueError(f"{len(losses)} losses for {len(places)} open places")
            self._surprising[places] = losses >= self._settings.surprise_threshold
        starts = self._counters[:, kernel.INGESTED]
        until = starts.copy()
        until[users] = np.maximum(until[users], ends)
        counters, everybody = self._counters.copy(), np.arange(len(until))
        none = np.zeros(0, dtype=np.int64)
        reads = kernel.Reads(none, np.zeros_like(everybody), none, np.zeros((0, 0), np.int32))
        self._long_term = self._run(everybody, starts, until, counters, self._long_term, reads)
        self._counters, self._stamp = counters, None

    def retrieve(self, users: UserIndices) -> Ints:
        """Items [U, top_k] that the users' memories give now, 0 where there is no entry."""
        return self.replay(users, self.cursors(users))

    def replay(self, users: UserIndices, positions: Positions) -> Ints:
        """Items [n, top_k] that the memory of each user [n] gave just before the position [n].

        The memory at a position holds only what came before it. Where it has gone further, it is
        built again from the history, which takes less room than keeping it for every position.
        """
        order = np.lexsort((positions, users))
        who, begins, counts = np.unique(users[order], return_index=True, return_counts=True)
        ends = begins + counts
        cursors = self.cursors(who)
        at_hand = positions[order[begins]] >= cursors  # it has not gone further
        lt_begins = offsets_of(_lt_sizes(self._counters))
        counters = np.where(at_hand[:, None], self._counters[who], 0)
        entries = ranges(lt_begins[who], _lt_sizes(counters))
        reads = kernel.Reads(
            place=(self._first[users] + positions)[order],
            ends=ends,
            row=order,
            found=np.zeros((len(order), self._settings.top_k), dtype=np.int32),
        )
        starts, until = np.where(at_hand, cursors, 0), positions[order[ends - 1]]
        self._run(who, starts, until, counters, self._long_term[entries], reads)
        return reads.found

    def statistics(self) -> MemoryStatistics:
        """Sums over all memories."""
        memories = int(np.count_nonzero(self._counters[:, kernel.INGESTED]))
        return MemoryStatistics.of(self._settings, self._counters, len(self._long_term), memories)

    def pack(self) -> Packed:
        """All memories as a few arrays of int32: a user's parts stand one after the other.

        `counters` [U, 5] of the `users` [U] who have a memory give the sizes of the parts:
        `long_term` has promotions − evictions rows of item, step and frequency, `surprises` as many
        positions as there were surprises.
        """
        users = np.flatnonzero(self._counters[:, kernel.INGESTED]).astype(np.int32)
        counters = self._counters[users]
        first = np.repeat(self._first[users], counters[:, kernel.SURPRISES])
        return {
            "users": users,
            "counters": counters,
            "long_term": self._long_term,
            "surprises": (np.flatnonzero(self._surprising) - first).astype(np.int32),
        }

    def empty(self) -> Packed:
        """What `pack` gives where nobody has a memory."""
        return MemoryBank(self._settings, self.threshold, self._novelties).pack()

    def unpack(self, packed: Packed) -> None:
        """Take the memories that `pack` gave, in place of any that are here."""
        users, counters = packed["users"], packed["counters"]
        self._counters = np.zeros_like(self._counters)
        self._counters[users] = counters
        self._long_term = packed["long_term"].copy()
        first = np.repeat(self._first[users], counters[:, kernel.SURPRISES])
        self._surprising[:] = False
        self._surprising[first + packed["surprises"]] = True
        self._stamp = None

    def _run(
        self,
        users: UserIndices,
        starts: Positions,
        ends: Positions,
        counters: Ints,
        long_term: Ints,
        reads: kernel.Reads,
    ) -> Ints:
        """Ingest from `starts` [U] to `ends` [U] into memories with these counters [U, 5], which
        are changed, and entries; the new entries.
        """
        first = self._first[users]
        places = ranges(first + starts, ends - starts)
        familiarity, catalogue = self._novelties.familiarity(places), self._novelties.catalogue
        history = kernel.History(self._interactions.items, familiarity, self._surprising)
        spans = kernel.Spans(first, first + starts, first + ends)
        rules = rules_of(self._settings, self.threshold, self._settings.top_k)
        after: Ints = kernel.ingest(
            history, spans, counters, _lt_sizes(counters), long_term, reads, catalogue, rules
        )
        return after


def without_user(packed: Packed, user: int) -> Packed:
    """What `MemoryBank.pack` gave, less one user's memory."""
    others, counters = packed["users"] != user, packed["counters"]
    of_entry = np.repeat(others, _lt_sizes(counters))
    of_surprise = np.repeat(others, counters[:, kernel.SURPRISES])
    return {
        "users": packed["users"][others],
        "counters": counters[others],
        "long_term": packed["long_term"][of_entry],
        "surprises": packed["surprises"][of_surprise],
    }


def _lt_sizes(counters: Ints) -> npt.NDArray[np.int64]:
    """Long-term entries [U] by counters [U, 5]."""
    return counters[:, kernel.PROMOTIONS].astype(np.int64) - counters[:, kernel.EVICTIONS]
