"""The memories of a node: cursors, packing, and replays that see only the past."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedmem.configuration import compose_settings
from fedmem.data import Interactions
from fedmem.memory import MemoryBank
from tests.conftest import SMALL

RULES = compose_settings(SMALL).memory
NUM_ITEMS = 30
GENERATOR = np.random.default_rng(0)
VECTORS = GENERATOR.normal(size=(NUM_ITEMS + 1, 6)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
WITHOUT = [0, 4, 9, 14, 19, 24, 29]
VECTORS[WITHOUT] = 0
HISTORIES = [GENERATOR.integers(1, NUM_ITEMS + 1, size=n) for n in (40, 25, 3, 60)]


def bank(histories: list[Any] = HISTORIES, threshold: float = 0.5, **rules: Any) -> MemoryBank:
    interactions = Interactions(
        offsets=np.cumsum([0, *map(len, histories)]),
        items=np.concatenate(histories).astype(np.int32),
        item_ids=np.arange(NUM_ITEMS + 1),
        user_ids=np.arange(len(histories)),
    )
    return MemoryBank(replace(RULES, **rules), threshold, VECTORS, interactions)


def losses_of(of: MemoryBank, user: int, end: int) -> dict[int, float]:
    """Every second open position surprises."""
    return {int(p): float(k % 2) for k, p in enumerate(of.open_losses(user, end))}


def filled() -> MemoryBank:
    found = bank()
    for user, end in ((0, 38), (1, 20), (3, 58)):
        found.ingest(user, end, losses_of(found, user, end))
    return found


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_the_cursor_stands_after_what_was_ingested() -> None:
    found = filled()
    assert [found.cursor(user) for user in range(4)] == [38, 20, 0, 58]


def test_ingesting_again_changes_nothing() -> None:
    found = filled()
    before = found.pack()
    found.ingest(0, 38, {4: 9.0})
    found.ingest(0, 10)
    assert same(found.pack(), before)


@pytest.mark.parametrize("ends", [[38], [10, 38], [1, 2, 3, 20, 20, 38]])
def test_ingesting_in_parts_is_the_same_as_at_once(ends: list[int]) -> None:
    found, at_once = bank(), bank()
    surprising = losses_of(at_once, 0, 38)
    at_once.ingest(0, 38, surprising)
    for end in ends:
        found.ingest(0, end, {int(p): surprising[int(p)] for p in found.open_losses(0, end)})
    assert same(found.pack(), at_once.pack())


def test_open_losses_are_the_new_items_without_content() -> None:
    found = bank([np.array([1, 4, 2, 9, 9, 3, 14])])
    assert found.open_losses(0, 6).tolist() == [1, 3, 4]
    found.ingest(0, 4)
    assert found.open_losses(0, 7).tolist() == [4, 6]
    assert found.open_losses(0, 4).tolist() == []


def test_a_user_who_was_never_seen_has_an_empty_memory() -> None:
    assert not bank().retrieve(2).any()


def test_packing_and_unpacking_gives_the_same_memories() -> None:
    found, packed = bank(), filled().pack()
    found.unpack(packed)
    assert same(found.pack(), packed)
    for user in range(4):
        assert found.retrieve(user).tolist() == filled().retrieve(user).tolist()
        assert found.cursor(user) == filled().cursor(user)


def test_packed_arrays_are_integers_of_32_bits() -> None:
    for packed in (filled().pack(), bank().pack()):
        assert {array.dtype for array in packed.values()} == {np.dtype(np.int32)}


def test_an_empty_bank_packs_and_unpacks() -> None:
    found = filled()
    found.unpack(bank().pack())
    assert same(found.pack(), bank().pack())
    assert found.cursor(0) == 0


def test_unpacked_memories_go_on_where_they_were() -> None:
    whole, first, second = bank(), bank(), bank()
    whole.ingest(0, 40)
    first.ingest(0, 17)
    second.unpack(first.pack())
    second.ingest(0, 40)
    assert same(second.pack(), whole.pack())


def test_packing_is_a_copy_that_later_items_do_not_change() -> None:
    found = filled()
    packed = found.pack()
    copy = {name: array.copy() for name, array in packed.items()}
    found.unpack(packed)
    found.ingest(0, 40)
    assert same(packed, copy)


def test_a_replay_gives_what_the_memory_held_before_each_position() -> None:
    found, stepwise = filled(), bank()
    surprising = losses_of(bank(), 3, 58)
    replayed = found.replay(3, np.arange(59))
    assert replayed.shape == (59, RULES.top_k)
    for position in range(59):
        open_losses = {int(p): surprising[int(p)] for p in stepwise.open_losses(3, position)}
        stepwise.ingest(3, position, open_losses)
        assert replayed[position].tolist() == stepwise.retrieve(3).tolist()


def test_a_replay_needs_no_item_at_the_first_position() -> None:
    assert filled().replay(0, np.array([0])).tolist() == [[0] * RULES.top_k]
    assert filled().replay(0, np.array([], dtype=np.int64)).shape == (0, RULES.top_k)


def test_a_replay_reads_only_where_it_is_asked() -> None:
    everywhere = filled().replay(0, np.arange(39))
    assert np.array_equal(
        filled().replay(0, np.array([3, 20, 20, 38])), everywhere[[3, 20, 20, 38]]
    )


@pytest.mark.parametrize("position", [1, 10, 30])
def test_a_replay_does_not_see_the_future(position: int) -> None:
    changed = [history.copy() for history in HISTORIES]
    changed[0][position:] = changed[0][position:] % NUM_ITEMS + 1
    found, other = bank(), bank(changed)
    for one in (found, other):
        one.ingest(0, 40, losses_of(one, 0, 40))
    positions = np.arange(position + 1)
    assert np.array_equal(found.replay(0, positions), other.replay(0, positions))
    later = np.arange(position + 1, 41)
    assert not np.array_equal(found.replay(0, later), other.replay(0, later))


def test_a_replay_changes_no_memory() -> None:
    found = filled()
    before = found.pack()
    found.replay(0, np.arange(39))
    found.replay(2, np.arange(3))
    assert same(found.pack(), before)


def test_surprises_survive_packing_and_are_replayed() -> None:
    # Only the surprise at position 1 keeps item 4 once the short-term tier has moved on.
    history = [np.array([1, 4, 2, 2, 2, 2, 2])]
    surprised, calm, restored = (bank(history, short_term_capacity=2, top_k=5) for _ in range(3))
    surprised.ingest(0, 6, {1: RULES.surprise_threshold})
    calm.ingest(0, 6, {1: RULES.surprise_threshold - 0.01})
    restored.unpack(surprised.pack())
    for one, held in ((surprised, True), (calm, False), (restored, True)):
        assert (4 in one.retrieve(0)) is held
        assert (4 in one.replay(0, np.array([6]))[0]) is held
    assert restored.replay(0, np.array([1])).tolist() == [[1, 0, 0, 0, 0]]


def test_surprises_of_several_ingestions_are_all_kept() -> None:
    history = [np.array([4, 1, 9, 1, 1, 1])]
    found = bank(history, short_term_capacity=2, top_k=5)
    found.ingest(0, 1, {0: 1.0})
    found.ingest(0, 6, {2: 1.0})
    assert found.pack()["surprises"].tolist() == [0, 2]
    assert {4, 9} <= set(found.replay(0, np.array([6]))[0].tolist())


def test_statistics_are_sums_over_the_memories() -> None:
    found = filled().statistics()
    assert found.ingested == 38 + 20 + 58
    assert found.st_capacity == 3 * RULES.short_term_capacity
    assert found.lt_capacity == 3 * RULES.long_term_capacity
    alone = []
    for user, end in ((0, 38), (1, 20), (3, 58)):
        one = bank()
        one.ingest(user, end, losses_of(one, user, end))
        alone.append(one.statistics())
    assert found.promotions == sum(s.promotions for s in alone)
    assert found.merges == sum(s.merges for s in alone)
    assert found.surprises == sum(s.surprises for s in alone) > 0


def test_the_hash_of_the_rules_hangs_on_all_that_decides_what_a_memory_holds() -> None:
    hashes = [
        bank().rules,
        bank(threshold=0.6).rules,
        bank(half_life=3.0).rules,
        bank(merge_similarity=0.5).rules,
    ]
    assert len(set(hashes)) == 4
    assert bank().rules == hashes[0]
