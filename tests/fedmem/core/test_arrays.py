"""Ragged arrays, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fedmem.core.arrays import by_length, found_in, offsets_of, ranges


def test_stretches_follow_each_other() -> None:
    found = ranges(np.array([7, 0, 3, 5], dtype=np.int32), np.array([2, 3, 0, 1]))
    assert found.tolist() == [7, 8, 0, 1, 2, 5]
    assert found.dtype == np.int64


def test_there_may_be_nothing() -> None:
    assert ranges(np.array([4, 2]), np.array([0, 0])).tolist() == []
    assert ranges(np.array([], dtype=np.int64), np.array([], dtype=np.int64)).tolist() == []


def test_stretches_start_where_the_ones_before_end() -> None:
    lengths = np.array([2, 0, 3])
    assert offsets_of(lengths).tolist() == [0, 2, 2, 5]
    assert offsets_of(np.zeros(0, np.int64)).tolist() == [0]


def test_batches_hold_rows_of_similar_length_the_longest_first() -> None:
    lengths = np.array([2, 9, 1, 3, 2, 0, 1])
    batches = [rows.tolist() for rows in by_length(lengths, at_once=6)]
    assert batches == [[1], [3, 0], [4, 2, 6], [5]]


@pytest.mark.parametrize("at_once", [1, 5, 24, 10_000])
def test_every_row_is_in_one_batch_and_no_batch_is_too_large(at_once: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 20, size=100)
    batches = list(by_length(lengths, at_once))
    assert sorted(np.concatenate(batches).tolist()) == list(range(100))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * lengths[rows].max() <= at_once


def test_no_rows_make_no_batch() -> None:
    assert list(by_length(np.zeros(0, dtype=np.int64), 8)) == []


def test_users_are_found_among_others_as_in_an_intersection() -> None:
    generator = np.random.default_rng(0)
    for some, others in ((0, 5), (5, 0), (1, 1), (7, 30), (30, 7), (40, 40)):
        mine, theirs = (np.sort(generator.permutation(50)[:n]) for n in (some, others))
        assert found_in(mine, theirs).tolist() == np.intersect1d(mine, theirs).tolist()
