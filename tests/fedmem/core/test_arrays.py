"""Ragged arrays, by hand."""

from __future__ import annotations

import numpy as np

from fedmem.core.arrays import ranges


def test_stretches_follow_each_other() -> None:
    found = ranges(np.array([7, 0, 3, 5], dtype=np.int32), np.array([2, 3, 0, 1]))
    assert found.tolist() == [7, 8, 0, 1, 2, 5]
    assert found.dtype == np.int64


def test_there_may_be_nothing() -> None:
    assert ranges(np.array([4, 2]), np.array([0, 0])).tolist() == []
    assert ranges(np.array([], dtype=np.int64), np.array([], dtype=np.int64)).tolist() == []
