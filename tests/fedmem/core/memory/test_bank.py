"""The memories of a node: cursors, packing, and replays that see only the past."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedmem.core.data import Interactions
from fedmem.core.memory import MemoryBank, Novelties, TwoTierMemory
from fedmem.runs.configuration import compose_settings
from tests.helpers.small_world import SMALL

RULES = compose_settings(SMALL).memory
NUM_ITEMS = 30
GENERATOR = np.random.default_rng(0)
VECTORS = GENERATOR.normal(size=(NUM_ITEMS + 1, 6)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
WITHOUT = [0, 4, 9, 14, 19, 24, 29]
VECTORS[WITHOUT] = 0
ENDS = ((0, 38), (1, 20), (3, 58))
HISTORIES = [GENERATOR.integers(1, NUM_ITEMS + 1, size=n) for n in (40, 25, 3, 60)]


def bank(
    histories: list[Any] = HISTORIES, threshold: float = 0.5, first_user: int = 0, **rules: Any
) -> MemoryBank:
    interactions = Interactions(
        offsets=np.cumsum([0, *map(len, histories)]),
        items=np.concatenate(histories).astype(np.int32),
        item_ids=np.arange(NUM_ITEMS + 1),
        user_ids=np.arange(len(histories)) + first_user,
    )
    own = replace(RULES, **rules)
    novelties = Novelties(interactions, VECTORS, own.short_term_capacity)
    return MemoryBank(own, threshold, novelties)


def losses_of(of: MemoryBank, users: Any, ends: Any) -> Any:
    """Every item without content surprises where it stands at an odd place."""
    return of.open_losses(users, ends) % 2.0


def bring(of: MemoryBank, user: int, end: int) -> None:
    one, until = np.array([user]), np.array([end])
    of.ingest(one, until, losses_of(of, one, until))


def read(of: MemoryBank, user: int, positions: Any) -> Any:
    return of.replay(np.full(len(positions), user), np.array(positions, dtype=np.int64))


def held(of: MemoryBank, user: int) -> list[int]:
    return of.retrieve(np.array([user]))[0].tolist()


def filled() -> MemoryBank:
    found = bank()
    for user, end in ENDS:
        bring(found, user, end)
    return found


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def alone(user: int, end: int, threshold: float = 0.5) -> TwoTierMemory:
    """The memory of one user, as `bring` fills it, without any bank."""
    first = sum(map(len, HISTORIES[:user]))
    memory = TwoTierMemory(RULES, threshold, VECTORS)
    memory.extend(HISTORIES[user][:end], (first + np.arange(end)) % 2.0)
    return memory


def test_the_cursor_stands_after_what_was_ingested() -> None:
    assert filled().cursors(np.arange(4)).tolist() == [38, 20, 0, 58]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
def test_many_users_at_once_are_the_same_as_each_alone(threshold: float) -> None:
    found = bank(threshold=threshold)
    users, ends = np.array(ENDS).T
    found.ingest(users, ends, losses_of(found, users, ends))
    each = [alone(user, end, threshold) for user, end in ENDS]
    packed = found.pack()
    assert packed["users"].tolist() == users.tolist()
    assert packed["counters"].tolist() == [m.state.counters.tolist() for m in each]
    assert packed["long_term"].tolist() == [
        entry for m in each for entry in m.state.long_term.tolist()
    ]
    assert found.retrieve(users).tolist() == [m.retrieve()[0].tolist() for m in each]


def test_the_order_of_users_does_not_matter() -> None:
    found, turned = bank(), bank()
    users, ends = np.array(ENDS).T
    found.ingest(users, ends, losses_of(found, users, ends))
    turned.ingest(users[::-1], ends[::-1], losses_of(turned, users[::-1], ends[::-1]))
    assert same(found.pack(), turned.pack())
    assert np.array_equal(found.retrieve(users)[::-1], turned.retrieve(users[::-1]))


def test_ingesting_again_changes_nothing() -> None:
    found = filled()
    before = found.pack()
    bring(found, 0, 38)
    bring(found, 0, 10)
    assert same(found.pack(), before)


@pytest.mark.parametrize("ends", [[38], [10, 38], [1, 2, 3, 20, 20, 38]])
def test_ingesting_in_parts_is_the_same_as_at_once(ends: list[int]) -> None:
    found, at_once = bank(), bank()
    bring(at_once, 0, 38)
    for end in ends:
        bring(found, 0, end)
    assert same(found.pack(), at_once.pack())


def test_open_losses_are_the_new_items_without_content() -> None:
    found = bank([np.array([1, 4, 2, 9, 9, 3, 14]), np.array([4, 1])])
    users = np.array([0])
    assert found.open_losses(users, np.array([6])).tolist() == [1, 3, 4]
    assert found.open_losses(np.array([1, 0]), np.array([2, 2])).tolist() == [7, 1]
    found.ingest(users, np.array([4]))
    assert found.open_losses(users, np.array([7])).tolist() == [4, 6]
    assert found.open_losses(users, np.array([4])).tolist() == []


def test_losses_that_nobody_asked_for_are_refused() -> None:
    with pytest.raises(ValueError, match="2 losses for 1 open places"):
        bank([np.array([1, 4, 2])]).ingest(np.array([0]), np.array([3]), np.zeros(2))


def test_a_user_who_was_never_seen_has_an_empty_memory() -> None:
    assert not any(held(bank(), 2))


def test_packing_and_unpacking_gives_the_same_memories() -> None:
    found, packed = bank(), filled().pack()
    found.unpack(packed)
    assert same(found.pack(), packed)
    everyone = np.arange(4)
    assert np.array_equal(found.retrieve(everyone), filled().retrieve(everyone))
    assert np.array_equal(found.cursors(everyone), filled().cursors(everyone))


def test_packed_arrays_are_integers_of_32_bits() -> None:
    for packed in (filled().pack(), bank().pack()):
        assert {array.dtype for array in packed.values()} == {np.dtype(np.int32)}


def test_packed_arrays_that_cannot_be_written_are_taken_too() -> None:
    found, packed = bank(), filled().pack()
    for array in packed.values():
        array.setflags(write=False)
    found.unpack(packed)
    bring(found, 0, 40)
    assert found.cursors(np.array([0])) == 40


def test_an_empty_bank_packs_and_unpacks() -> None:
    found = filled()
    found.unpack(bank().pack())
    assert same(found.pack(), bank().pack())
    assert not found.cursors(np.arange(4)).any()


def test_unpacked_memories_go_on_where_they_were() -> None:
    whole, first, second = bank(), bank(), bank()
    bring(whole, 0, 40)
    bring(first, 0, 17)
    second.unpack(first.pack())
    bring(second, 0, 40)
    assert same(second.pack(), whole.pack())


def test_packing_is_a_copy_that_later_items_do_not_change() -> None:
    found = filled()
    packed = found.pack()
    copy = {name: array.copy() for name, array in packed.items()}
    found.unpack(packed)
    bring(found, 0, 40)
    assert same(packed, copy)


def test_the_stamp_is_that_of_the_contents() -> None:
    found, other = filled(), bank()
    assert found.stamp != other.stamp
    other.unpack(found.pack())
    assert found.stamp == other.stamp
    bring(other, 0, 40)
    assert found.stamp != other.stamp


def test_a_replay_gives_what_the_memory_held_before_each_position() -> None:
    found, stepwise = filled(), bank()
    replayed = read(found, 3, range(59))
    assert replayed.shape == (59, RULES.top_k)
    for position in range(59):
        bring(stepwise, 3, position)
        assert replayed[position].tolist() == held(stepwise, 3)


def test_a_replay_needs_no_item_at_the_first_position() -> None:
    assert read(filled(), 0, [0]).tolist() == [[0] * RULES.top_k]
    assert read(filled(), 0, []).shape == (0, RULES.top_k)


def test_a_replay_reads_only_where_it_is_asked_in_any_order() -> None:
    found = filled()
    each = [read(found, user, range(end + 1)) for user, end in ENDS]
    users = np.array([3, 0, 0, 1, 3, 0, 0])
    positions = np.array([58, 20, 3, 7, 0, 38, 20])
    expected = [each[[0, 1, 9, 2][u]][p].tolist() for u, p in zip(users, positions, strict=True)]
    assert found.replay(users, positions).tolist() == expected


@pytest.mark.parametrize("position", [1, 10, 30])
def test_a_replay_does_not_see_the_future(position: int) -> None:
    changed = [history.copy() for history in HISTORIES]
    changed[0][position:] = changed[0][position:] % NUM_ITEMS + 1
    found, other = bank(), bank(changed)
    for one in (found, other):
        bring(one, 0, 40)
    positions = np.arange(position + 1)
    assert np.array_equal(read(found, 0, positions), read(other, 0, positions))
    later = np.arange(position + 1, 41)
    assert not np.array_equal(read(found, 0, later), read(other, 0, later))


def test_a_replay_changes_no_memory() -> None:
    found = filled()
    before, stamp = found.pack(), found.stamp
    copy = {name: array.copy() for name, array in before.items()}
    read(found, 0, range(41))
    read(found, 2, range(3))
    assert same(found.pack(), copy)
    assert found.stamp == stamp


def test_surprises_survive_packing_and_are_replayed() -> None:
    # Only the surprise at position 1 keeps item 4 once the short-term tier has moved on.
    history = [np.array([1, 4, 2, 2, 2, 2, 2])]
    surprised, calm, restored = (bank(history, short_term_capacity=2, top_k=5) for _ in range(3))
    user, end = np.array([0]), np.array([6])
    surprised.ingest(user, end, np.array([RULES.surprise_threshold]))
    calm.ingest(user, end, np.array([RULES.surprise_threshold - 0.01]))
    restored.unpack(surprised.pack())
    for one, kept in ((surprised, True), (calm, False), (restored, True)):
        assert (4 in held(one, 0)) is kept
        one.ingest(user, end + 1)
        assert (4 in read(one, 0, [6])[0]) is kept
    assert read(restored, 0, [1]).tolist() == [[1, 0, 0, 0, 0]]


def test_surprises_of_several_users_and_ingestions_are_all_kept() -> None:
    histories = [np.array([4, 1, 9, 1, 1, 1]), np.array([1, 14, 1, 1])]
    found, restored = (bank(histories, short_term_capacity=2, top_k=5) for _ in range(2))
    found.ingest(np.array([0]), np.array([1]), np.ones(1))
    found.ingest(np.array([0, 1]), np.array([6, 4]), np.ones(2))
    assert found.pack()["surprises"].tolist() == [0, 2, 1]
    restored.unpack(found.pack())
    assert same(restored.pack(), found.pack())
    for one in (found, restored):
        assert {4, 9} <= set(read(one, 0, [4, 6])[1].tolist())
        assert 14 in read(one, 1, [2, 4])[1]


def test_statistics_are_sums_over_the_memories() -> None:
    found = filled().statistics()
    assert found.ingested == 38 + 20 + 58
    assert found.st_capacity == 3 * RULES.short_term_capacity
    assert found.lt_capacity == 3 * RULES.long_term_capacity
    each = [alone(user, end).statistics() for user, end in ENDS]
    assert found.promotions == sum(s.promotions for s in each)
    assert found.merges == sum(s.merges for s in each)
    assert found.st_size == sum(s.st_size for s in each)
    assert found.lt_size == sum(s.lt_size for s in each)
    assert found.surprises == sum(s.surprises for s in each) > 0


def test_the_hash_of_the_rules_hangs_on_all_that_decides_what_a_memory_holds() -> None:
    hashes = [
        bank().rules,
        bank(threshold=0.6).rules,
        bank(half_life=3.0).rules,
        bank(merge_similarity=0.5).rules,
        bank(first_user=1).rules,  # other people behind the same indices
    ]
    assert len(set(hashes)) == 5
    assert bank().rules == hashes[0]
