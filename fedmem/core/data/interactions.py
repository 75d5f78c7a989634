"""Interactions: from a file to dense histories in time order, and the leave-one-out split."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import Ints, Places, UserIndices, offsets_of, ranges
from fedmem.core.data.doubts import looks_wrong, swapped, unused_times
from fedmem.core.data.ids import Ids, catalogue, fingerprint, padded, places
from fedmem.core.data.layouts import Layout
from fedmem.core.data.preparation import Dropped, Size, TableRows, keep
from fedmem.core.data.readers import Table, read_table
from fedmem.core.data.sources import find_files, in_order_of_splits
from fedmem.core.data.splits import check_splits
from fedmem.core.errors import FedmemError
from fedmem.core.settings import DataSettings

Split = Literal["validation", "test"]
HELD_OUT: dict[Split, int] = {"test": 1, "validation": 2}
"""Leave one out by time: where a split's held-out item stands, from the end of a history. All items
before both are for training."""


@dataclass(frozen=True)
class Interactions:
    """Histories of all users, items dense from 1 (0 = padding)."""

    offsets: Places
    """[U + 1]; user u's history is items[offsets[u] : offsets[u + 1]], oldest first."""
    items: Ints
    """[N] dense item ids."""
    item_ids: Ids
    """[I + 1] the data's own id of each dense item; entry 0 is padding's."""
    user_ids: Ids
    """[U] the data's own id of each user."""

    @classmethod
    def of_nobody(cls, item_ids: Ids) -> Interactions:
        """A catalogue of items [I + 1] without any history."""
        nobody = np.zeros(0, dtype=np.int32)
        return cls(np.zeros(1, np.int64), nobody, item_ids, nobody)

    @property
    def num_users(self) -> int:
        """Users, with those of other nodes below `data.first_index`, who have no history here."""
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        """Items without the padding."""
        return len(self.item_ids) - 1

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """[U] interactions of each user."""
        return np.diff(self.offsets)

    @property
    def complete(self) -> UserIndices:
        """Users whose history leave-one-out can part, ascending: others live at other nodes, or
        had too much forgotten to take part.
        """
        return np.flatnonzero(self.held_out_positions("validation") > 0)

    @property
    def users(self) -> npt.NDArray[np.int64]:
        """[N] the user of each interaction."""
        return np.repeat(np.arange(self.num_users), self.lengths)

    @cached_property
    def training_lengths(self) -> npt.NDArray[np.int64]:
        """[U] items of each user that training may look at."""
        return np.maximum(self.held_out_positions("validation"), 0)

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """[U] training items of each user with one before them to be predicted from."""
        return np.maximum(self.training_lengths - 1, 0)

    def held_out_positions(self, split: Split) -> npt.NDArray[np.int64]:
        """[U] position in each history of the split's held-out item, below 0 if there is none."""
        return self.lengths - HELD_OUT[split]

    def held_out(self, split: Split, users: UserIndices) -> Ints:
        """The split's held-out item of each of these users."""
        return self.items[self.offsets[users + 1] - HELD_OUT[split]]

    def starts_at(self, places: npt.NDArray[np.integer]) -> Places:
        """Where in `items` the history begins that each of these places belongs to."""
        return self.offsets[np.searchsorted(self.offsets, places, side="right") - 1]

    def training_places(self, users: UserIndices) -> Places:
        """Places in `items` of these users' training items, user by user."""
        return ranges(self.offsets[users], self.training_lengths[users])

    def history(self, user: int, end: int | None = None) -> Ints:
        """A user's items, oldest first, up to a position; None: all of them."""
        return self.items[self.offsets[user] : self.offsets[user + 1]][:end]

    def histories_before(self, split: Split, users: UserIndices) -> list[Ints]:
        """What stands before the split's held-out item in the history of each of these users."""
        ends = self.held_out_positions(split)
        return [self.history(int(user), ends[user]) for user in users]

    def training(self, user: int) -> Ints:
        """The user's items that training may look at."""
        return self.history(user, self.training_lengths[user])

    @cached_property
    def training_sets(self) -> list[Ints]:
        """Each user's training items, ascending, each once."""
        return [np.unique(self.training(user)) for user in range(self.num_users)]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the catalogue: models fit where it is the same, whoever the users are."""
        return fingerprint(self.item_ids)

    @cached_property
    def histories_hash(self) -> str:
        """Hash of all histories by the data's own ids: the same for the same data, wherever."""
        digest = hashlib.sha256(f"{self.fingerprint} {fingerprint(self.user_ids)}".encode())
        for array in (self.offsets.astype("<i8"), self.items.astype("<i4")):
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]


def absent_items(
    present: npt.NDArray[np.integer], places: npt.NDArray[np.integer]
) -> npt.NDArray[np.int64]:
    """The items at these places [n], from 0, of the ascending list 1, 2, … without those present,
    ascending and each once.
    """
    absent_before = present - 1 - np.arange(len(present))  # absent items below each of them
    return places + 1 + np.searchsorted(absent_before, places, side="right")


@dataclass(frozen=True)
class Loaded:
    """Interactions, and how they came about."""

    interactions: Interactions
    """As the files have them; what was forgotten is left out by `load_interactions`."""
    paths: list[Path]
    layout: Layout
    read: Size
    """What the file holds."""
    in_time: bool
    """Whether it has timestamps; else its own order counts."""
    dropped: list[Dropped]
    """By each filter that dropped any."""
    doubts: list[str]
    """What looks as if something were wrong with the data."""

    @property
    def kept(self) -> Size:
        """What is left."""
        of = self.interactions
        return Size(of.num_users, of.num_items, len(of.items))


@functools.lru_cache(maxsize=2)
def load(settings: DataSettings) -> Loaded:
    """The interactions as the files have them, and how they came about, read once in a process.

    Dense ids follow the order of the data's own: numbers where all are whole numbers, else text.
    Ties in time keep the file's order.

    Raises:
        FedmemError: the file is not there, cannot be read, or leaves no user.
    """
    paths = find_files(settings)
    table, layout = read_table(paths, settings)
    if settings.min_rating is not None and table.ratings is None:
        raise FedmemError(f"{paths[0]} has no ratings, and data.min_rating={settings.min_rating}.")
    rows, dropped = keep(table, settings)
    if not len(rows):
        raise FedmemError(
            f"{paths[0]} leaves no user: all were dropped, the last for {dropped[-1].reason}."
        )
    if table.dropped:
        dropped = [Dropped(table.missing, Size(0, 0, table.dropped)), *dropped]
    read = Size(len(table.user_ids), len(table.item_ids), len(table.users) + table.dropped)
    in_time = table.timestamps is not None
    doubts = looks_wrong(table.users, table.user_ids, table.items, table.item_ids, table.timestamps)
    if layout.guessed and layout.names:
        doubts += swapped(table.users, table.items, table.timestamps)
    if not in_time:
        doubts += unused_times(layout.names)
    if len(paths) > 1 and in_order_of_splits(paths):
        check_splits(paths, table, rows)
    interactions = _assemble(table, rows, settings)
    return Loaded(interactions, paths, layout, read, in_time, dropped, doubts)


def _assemble(table: Table, rows: TableRows, settings: DataSettings) -> Interactions:
    """Dense histories of rows in which each user's stand together, in time order."""
    counts = np.bincount(table.users[rows])
    users = np.flatnonzero(counts)
    chosen = table.items[rows]
    met = np.bincount(chosen) > 0
    items, dense = np.flatnonzero(met), (np.cumsum(met) - 1)[chosen]
    seen, user_ids = table.item_ids[items], table.user_ids[users]
    item_ids = catalogue(settings, seen)
    elsewhere = np.zeros(settings.first_index, dtype=np.int64)  # histories of other nodes' users
    unnamed = np.full(settings.first_index, "" if user_ids.dtype == object else 0, user_ids.dtype)
    return Interactions(
        offsets=offsets_of(np.concatenate([elsewhere, counts[users]])),
        items=(places(seen, item_ids)[dense] + 1).astype(np.int32),
        item_ids=padded(item_ids),
        user_ids=np.concatenate([unnamed, user_ids]),
    )
