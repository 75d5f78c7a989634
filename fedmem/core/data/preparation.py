"""Which interactions are kept: the filters in their order, and what each of them dropped."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedmem.core.data.readers import Table
from fedmem.core.settings import DataSettings

TableRows = npt.NDArray[np.intp]
"""Places in a table, each user's together, in time order."""


class Size(NamedTuple):
    """How much of a table there is."""

    users: int
    items: int
    interactions: int

    @classmethod
    def of(cls, table: Table, rows: TableRows) -> Size:
        """The size of some rows of a table."""
        of_both = (np.bincount(codes[rows]) for codes in (table.users, table.items))
        users, items = (int(np.count_nonzero(counts)) for counts in of_both)
        return cls(users, items, len(rows))

    def __sub__(self, other: Size) -> Size:
        return Size(*map(operator.sub, self, other))


class Dropped(NamedTuple):
    """What a filter dropped, and why."""

    reason: str
    size: Size


def keep(table: Table, settings: DataSettings) -> tuple[TableRows, list[Dropped]]:
    """The rows that are kept, and what was dropped on the way.

    The order: minimum rating, duplicates, users and items with too few interactions, most active
    users, maximum history. Later filters do not bring earlier ones to run again.
    """
    if table.timestamps is None:
        rows: TableRows = np.argsort(table.users, kind="stable")
    else:
        rows = np.lexsort((table.timestamps, table.users))  # ties keep the file's order
    size = Size.of(table, rows)
    dropped = []
    for reason, rows in _filters(table, rows, settings):  # noqa: B020 - each goes on from the last
        left = Size.of(table, rows)
        if left != size:
            dropped.append(Dropped(reason, size - left))
        size = left
    return rows, dropped


def _filters(
    table: Table, rows: TableRows, settings: DataSettings
) -> Iterator[tuple[str, TableRows]]:
    if settings.min_rating is not None and table.ratings is not None:
        rows = rows[table.ratings[rows] >= settings.min_rating]
        yield f"rating under {settings.min_rating:g}", rows
    if settings.duplicates != "keep":
        rows = _once(table, rows, settings.duplicates)
        yield f"repeated, {settings.duplicates} kept", rows
    users, items = max(settings.min_interactions, settings.k_core or 0), settings.k_core or 0
    rows = _core(table, rows, users, items)
    of_items = f", items with under {items}" if items else ""
    yield f"users with under {users} interactions{of_items}", rows
    if settings.most_active_users is not None:
        user = table.users[rows]
        # Where two users have as many interactions, the lower id comes first.
        order = np.argsort(-np.bincount(user), kind="stable")
        rows = rows[np.isin(user, order[: settings.most_active_users])]
        yield f"not of the {settings.most_active_users:,} most active users", rows
    if settings.max_history is not None:
        user = table.users[rows]
        from_the_end = np.cumsum(np.bincount(user))[user] - np.arange(len(rows))
        rows = rows[from_the_end <= settings.max_history]
        yield f"before a user's latest {settings.max_history:,}", rows


def _once(table: Table, rows: TableRows, which: str) -> TableRows:
    """Of a user's interactions with one item, the first or the last."""
    pairs = table.users[rows] * len(table.item_ids) + table.items[rows]
    step = 1 if which == "first" else -1
    _, found = np.unique(pairs[::step], return_index=True)
    once: TableRows = rows[np.sort(found if which == "first" else len(rows) - 1 - found)]
    return once


def _core(table: Table, rows: TableRows, users: int, items: int) -> TableRows:
    """What is left when users and items with fewer interactions go, until none has fewer."""
    while True:
        user, item = table.users[rows], table.items[rows]
        enough = (np.bincount(user)[user] >= users) & (np.bincount(item)[item] >= items)
        if enough.all():
            return rows
        rows = rows[enough]
