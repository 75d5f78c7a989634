"""Kept pairs: the right row at each place, whatever was asked for before, in a table that stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fedmem.core.model.experts import MemoryExpert
from fedmem.core.model.kept_pairs import KeptPairs
from fedmem.core.model.rows import Rows

HEADS, ITEMS, DIM = 2, 12, 8


class Watched:
    """Rows of 10·item + head and of the negative, and which were asked for."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def __call__(self, items: Tensor) -> tuple[Tensor, Tensor]:
        self.made += items.tolist()
        rows = (10.0 * items + torch.arange(HEADS)[:, None])[..., None]
        return rows, -rows


def kept(entries: int, first: list[int], watched: Watched) -> KeptPairs:
    return KeptPairs(watched, HEADS, ITEMS, entries, np.array(first, np.int32))


def test_each_entry_has_its_row_and_only_new_ones_are_made() -> None:
    watched = Watched()
    pairs = kept(4, [3, 1, 2], watched)
    assert sorted(watched.made) == [1, 2, 3]
    tables = pairs.logits, pairs.along
    for asked in ([1, 3], [5, 1], [7, 5, 7], [2, 9, 7, 5], [3]):
        held = np.array(asked)
        places = pairs.places(held)
        expected = (10.0 * held + np.arange(HEADS)[:, None])[..., None].repeat(ITEMS, axis=2)
        for table, sign in zip(tables, (1, -1), strict=True):
            assert np.array_equal(table.numpy()[:, places], sign * expected)
    # 7 takes the place of 2, the least wanted at first; 2 and 9 those of 3 and 1.
    assert watched.made[3:] == [5, 7, 2, 9, 3]
    assert (pairs.logits, pairs.along) == tables
    assert all(table.shape == (HEADS, 5, ITEMS) for table in tables)


def test_all_have_a_place_that_were_wanted_at_first() -> None:
    watched = Watched()
    pairs = KeptPairs(watched, HEADS, 200, 150, np.arange(1, 201, dtype=np.int32))
    assert sorted(watched.made) == list(range(1, 151))
    pairs.places(np.arange(1, 151))
    assert len(watched.made) == 150


def test_all_items_are_served_to_memories_that_have_a_place() -> None:
    pairs = kept(2, [1, 2], Watched())
    assert pairs.serve(slice(1, ITEMS + 1), 2)
    assert not pairs.serve(slice(1, ITEMS + 1), 3)
    assert not pairs.serve(slice(2, ITEMS + 1), 2)
    assert not pairs.serve(None, 2)


@pytest.mark.parametrize("sharpness", [0.5, 50.0])  # 50: odds beside the best would underflow
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("entries", [3, ITEMS])
def test_a_reading_from_kept_pairs_is_the_same(entries: int, heads: int, sharpness: float) -> None:
    draw = torch.Generator().manual_seed(0)
    module = MemoryExpert(DIM, heads)
    spaces = torch.randn(3, ITEMS + 1, DIM, generator=draw)
    items = torch.randint(0, ITEMS + 1, (1, 6, 3), generator=draw)
    items[0, 4] = 0
    everything = torch.arange(1, ITEMS + 1)[None]
    with torch.no_grad():
        module.query.weight *= sharpness
        tables = module.tables(*spaces)
        fast = module.with_kept_pairs(tables, entries, np.arange(1, ITEMS + 1, dtype=np.int32))
        assert fast.kept is not None
        asked = fast.kept._now
        for candidates in (everything, everything[:, 2:7], everything.flip(1)):
            for memories in (items, items[:, :1], items[:, 3:]):
                expected = module(tables, Rows(candidates), memories)
                found = module(fast, Rows(candidates), memories)
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        assert fast.kept._now > asked
