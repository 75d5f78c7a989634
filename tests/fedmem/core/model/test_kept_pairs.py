"""Kept pairs: the right row at each place, whatever was asked for before, in a table that stays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fedmem.core.model.experts import MemoryExpert
from fedmem.core.model.kept_pairs import KeptPairs

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
    return KeptPairs(watched, HEADS, ITEMS, entries, np.array(first, np.int32), torch.float32)


def test_each_entry_has_its_row_and_only_new_ones_are_made() -> None:
    watched = Watched()
    pairs = kept(4, [3, 1, 2], watched)
    assert sorted(watched.made) == [1, 2, 3]
    table = pairs._rows
    for asked in ([1, 0, 3], [5, 1], [7, 5], [2, 9, 7, 5], [3]):
        held = torch.tensor(asked)
        found = pairs.pairs(held)
        assert found is not None
        expected = (10.0 * held + torch.arange(HEADS)[:, None]) * (held > 0)
        for rows, sign in zip(found, (1, -1), strict=True):
            assert torch.equal(rows[0], sign * expected[..., None].expand(-1, -1, ITEMS))
    # 7 takes the place of 2, the least wanted at first; 2 and 9 those of 3 and 1.
    assert watched.made[3:] == [5, 7, 2, 9, 3]
    assert pairs._rows is table
    assert table.shape == (2, HEADS, 5, ITEMS)


def test_all_have_a_place_that_were_wanted_at_first() -> None:
    watched = Watched()
    pairs = KeptPairs(watched, HEADS, 200, 150, np.arange(1, 201, dtype=np.int32), torch.float32)
    assert sorted(watched.made) == list(range(1, 151))
    assert pairs.pairs(torch.arange(1, 151)) is not None
    assert len(watched.made) == 150


def test_more_entries_than_places_are_not_kept_and_push_nothing_out() -> None:
    watched = Watched()
    pairs = kept(2, [1, 2], watched)
    assert pairs.pairs(torch.tensor([3, 4, 5])) is None
    assert pairs.pairs(torch.tensor([2, 1, 0, 0])) is not None
    assert len(watched.made) == 2


@pytest.mark.parametrize("sharpness", [0.5, 50.0])  # 50: odds beside the best would underflow
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("entries", [3, ITEMS])
def test_a_reading_from_kept_pairs_is_the_same(entries: int, heads: int, sharpness: float) -> None:
    draw = torch.Generator().manual_seed(0)
    module = MemoryExpert(DIM, heads).double()
    spaces = torch.randn(3, ITEMS + 1, DIM, dtype=torch.double, generator=draw)
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
                expected = module(tables, candidates, memories)
                found = module(fast, candidates, memories)
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        assert fast.kept._now > asked
