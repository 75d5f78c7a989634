"""Splits that come with the data: taken where they are those that fedmem makes, else refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedmem.core.data.preparation import TableRows
from fedmem.core.data.readers import Table
from fedmem.core.data.sources import split_of
from fedmem.core.errors import FedmemError


def check_splits(paths: Sequence[Path], table: Table, rows: TableRows) -> None:
    """Whether each user's last interaction is that of the test file, and the one before it that of
    the validation file, where there is one; `rows` are each user's together, in time order.

    Raises:
        FedmemError: it is not so.
    """
    users, files = table.users[rows], table.files[rows]
    _, first, counts = np.unique(users, return_index=True, return_counts=True)
    expected = np.zeros(len(rows), dtype=files.dtype)
    ends = first + counts
    for file, path in enumerate(paths):
        from_the_end = 3 - (split_of(path) or 0)  # 1 of the test split, 2 of the validation
        if from_the_end < 3:
            expected[ends - from_the_end] = file
    wrong = np.flatnonzero(files != expected)
    if len(wrong):
        user = table.user_ids[users[wrong[0]]]
        amount = len(np.unique(users[wrong]))
        file = len(paths) - 1
        tested = int(np.count_nonzero(files[users == users[wrong[0]]] == file))
        raise FedmemError(
            f"{paths[file]}: {amount:,} of {len(first):,} users are not split as fedmem splits "
            "them, the last interaction for the test and the one before it for validation: user "
            f"{user} has {tested} to test.\nTo have all of them split so, write them to one file."
        )
