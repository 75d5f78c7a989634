"""Arrays that many parts share: their types, and stretches of different length end to end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

UserIndices = npt.NDArray[np.integer]
"""Indices of users, from 0."""
Positions = npt.NDArray[np.integer]
"""Positions in users' own histories, from 0."""
Places = npt.NDArray[np.int64]
"""Indices into `Interactions.items`, where all histories stand end to end."""
Ints = npt.NDArray[np.int32]
"""Item ids, 0 where there is none; ranks and counters."""
Floats = npt.NDArray[np.float32]
"""Vectors, as models compute with them."""


def offsets_of(lengths: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Places:
    """[n + 1]: stretch k of these lengths [n] is offsets[k] : offsets[k + 1]."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def ranges(starts: npt.NDArray[np.integer], lengths: npt.NDArray[np.integer]) -> Places:
    """start, start + 1, … [Σ lengths] of each stretch, one stretch after the other."""
    return np.repeat(starts - offsets_of(lengths)[:-1], lengths) + np.arange(lengths.sum())


def found_in(some: UserIndices, users: UserIndices) -> UserIndices:
    """Those of some users [n] that are among these [U], who are ascending: n searches, so that few
    are soon found among a million.
    """
    if not len(users):
        return some[:0]
    places = np.minimum(np.searchsorted(users, some), len(users) - 1)
    found: UserIndices = some[users[places] == some]
    return found


def by_length(
    lengths: npt.NDArray[np.integer], at_once: int, most: int | None = None
) -> Iterator[npt.NDArray[np.intp]]:
    """Rows of these lengths [R] in batches of similar length, the longest first: little padding.

    A batch has at most so many positions, its padding counted, and at most so many rows; a longer
    row is a batch alone.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, at_once // max(int(lengths[order[start]]), 1))
        size = size if most is None else min(size, most)
        yield order[start : start + size]
        start += size
