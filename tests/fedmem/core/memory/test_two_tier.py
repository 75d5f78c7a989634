"""The rules of the two tiers: by hand, and against a plain implementation on random histories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as check
from hypothesis import strategies as st

from fedmem.core.memory import MemoryState, TwoTierMemory
from fedmem.core.memory.kernel import BINS
from fedmem.core.settings import MemorySettings
from fedmem.runs.configuration import compose_settings

RULES = replace(
    compose_settings().memory,
    short_term_capacity=3,
    long_term_capacity=2,
    merge_similarity=0.74,
    surprise_threshold=0.5,
    half_life=10.0,
    top_k=4,
    short_term_share=0.25,
)
# Items 1 to 4 have nothing in common; 5 has cosine 0.8 to item 1 and 0.6 to item 2; items 6 and 7
# are without content.
VECTORS = np.zeros((8, 4), np.float32)
VECTORS[[1, 2, 3, 4], [0, 1, 2, 3]] = 1.0
VECTORS[5, :2] = 0.8, 0.6


def memory(state: MemoryState | None = None, threshold: float = 0.5, **rules: Any) -> TwoTierMemory:
    return TwoTierMemory(replace(RULES, **rules), threshold, VECTORS, state)


def state(short_term: list[int], long_term: list[tuple[int, int, int]], step: int) -> MemoryState:
    return MemoryState(
        np.array([step, 0, 0, 0, 0], np.int32),
        np.array(short_term, np.int32),
        np.array(long_term, np.int32).reshape(-1, 3),
    )


def fed(items: Sequence[int], losses: Sequence[float] | None = None, **rules: Any) -> TwoTierMemory:
    filled = memory(**rules)
    filled.extend(np.array(items), None if losses is None else np.array(losses))
    return filled


def short_term(of: TwoTierMemory) -> list[int]:
    return of.state.short_term.tolist()


def long_term(of: TwoTierMemory) -> list[list[int]]:
    """[item, step of the last write, frequency] of each entry."""
    return of.state.long_term.tolist()


def equal(a: MemoryState, b: MemoryState) -> bool:
    return all(
        np.array_equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True)
    )


def test_a_new_memory_is_empty() -> None:
    found = memory()
    assert (short_term(found), long_term(found), found.statistics().ingested) == ([], [], 0)
    items, mask = found.retrieve()
    assert items.tolist() == [0, 0, 0, 0]
    assert mask.tolist() == [False] * 4


def test_the_short_term_tier_is_first_in_first_out() -> None:
    assert short_term(fed([1, 2])) == [1, 2]
    assert short_term(fed([1, 2, 3, 4, 1])) == [3, 4, 1]


def test_every_item_enters_the_short_term_tier_whether_novel_or_not() -> None:
    assert short_term(fed([1, 1, 6])) == [1, 1, 6]


def test_the_first_item_is_novel() -> None:
    assert long_term(fed([1])) == [[1, 1, 1]]


def test_novelty_is_one_minus_the_largest_cosine_to_the_short_term_items() -> None:
    # Of item 5 after items 1 and 2: 1 − max(0.8, 0.6) = 0.2.
    assert len(long_term(fed([1, 2, 5], threshold=0.19, merge_similarity=1.5))) == 2
    assert long_term(fed([1, 2, 5], threshold=0.19, merge_similarity=1.5))[-1] == [5, 3, 1]
    assert long_term(fed([1, 2, 5], threshold=0.21, merge_similarity=1.5))[-1] == [2, 2, 1]


def test_an_item_at_the_threshold_is_written() -> None:
    assert long_term(fed([1, 2], threshold=1.0)) == [[1, 1, 1], [2, 2, 1]]
    assert long_term(fed([1, 2], threshold=1.0051)) == []


def test_of_equally_novel_items_a_threshold_in_their_bin_lets_its_share_in() -> None:
    novel = [1, 2] * 2000  # with one place in ST, each of them is 1 off the one before it
    for kept_out in (0.0, 0.25, 0.9):
        threshold = 1.0 + kept_out * 2 / BINS
        rules = {"short_term_capacity": 1, "merge_similarity": 0.5, "top_k": 2}
        found = fed(novel, threshold=threshold, **rules).statistics().write_ratio
        assert found == pytest.approx(1 - kept_out, abs=0.03)


def test_novelty_is_taken_before_the_item_is_inserted() -> None:
    # Inserted first, item 2 would be like itself and never novel.
    assert long_term(fed([1, 2])) == [[1, 1, 1], [2, 2, 1]]


def test_novelty_looks_at_the_short_term_tier_only() -> None:
    # Item 1 has left the short-term tier [2, 3, 4] when it comes again.
    found = fed([1, 2, 3, 4, 1], long_term_capacity=9)
    assert found.statistics().writes == 5
    assert fed([1, 2, 3, 1], long_term_capacity=9).statistics().writes == 3


def test_an_item_that_comes_again_is_merged_into_its_own_entry() -> None:
    found = fed([1, 2, 3, 4, 1], long_term_capacity=9)
    assert long_term(found) == [[1, 5, 2], [2, 2, 1], [3, 3, 1], [4, 4, 1]]
    assert found.statistics().merges == 1
    assert found.statistics().promotions == 4


def test_a_similar_item_is_merged_into_the_nearest_entry() -> None:
    # Item 5 has cosine 0.8 to item 1 and 0.6 to item 2: merged into item 1, time refreshed.
    before = state([3], [(2, 2, 1), (1, 1, 4)], step=3)
    found = memory(before)
    found.update(5)
    assert long_term(found) == [[2, 2, 1], [1, 4, 5]]
    assert found.state.counters.tolist() == [4, 0, 1, 0, 0]


def test_a_less_similar_item_gets_an_entry_of_its_own() -> None:
    before = state([3], [(1, 1, 4)], step=3)
    found = memory(before, merge_similarity=0.81)
    found.update(5)
    assert long_term(found) == [[1, 1, 4], [5, 4, 1]]


def test_a_merge_needs_no_room() -> None:
    before = state([3], [(1, 1, 1), (2, 2, 1)], step=3)
    found = memory(before)
    found.update(5)
    assert found.statistics().evictions == 0
    assert len(long_term(found)) == 2


def test_at_equal_frequency_the_older_entry_makes_room() -> None:
    # Step 20: ln 2 + 2^(−10/10) = 1.193 for item 1, ln 2 + 2^(−2/10) = 1.564 for item 2.
    found = memory(state([4], [(1, 10, 1), (2, 18, 1)], step=19))
    found.update(3)
    assert long_term(found) == [[2, 18, 1], [3, 20, 1]]
    assert found.state.counters.tolist() == [20, 1, 0, 1, 0]


def test_a_frequent_entry_outlives_a_newer_one() -> None:
    # Step 20: ln 4 + 2^(−10/10) = 1.886 for item 1, ln 2 + 2^(−2/10) = 1.564 for item 2.
    assert math.log(4) + 0.5 > math.log(2) + 2**-0.2
    found = memory(state([4], [(1, 10, 3), (2, 18, 1)], step=19))
    found.update(3)
    assert long_term(found) == [[1, 10, 3], [3, 20, 1]]


def test_the_half_life_decides_between_frequent_and_recent() -> None:
    # Step 20: ln 3 + 2^(−18/100) = 1.981 against ln 2 + 2^(−1/100) = 1.686: item 2 goes.
    # With a half-life of 9, ln 3 + 2^(−2) = 1.349 against ln 2 + 2^(−1/9) = 1.619: item 1 goes.
    for half_life, kept in ((100.0, 1), (9.0, 2)):
        found = memory(state([4], [(1, 2, 2), (2, 19, 1)], step=19), half_life=half_life)
        found.update(3)
        assert long_term(found)[0][0] == kept


def test_age_counts_the_item_that_comes() -> None:
    # Step 20, half-life 1: ln 3 + 2^−2 = 1.349 against ln 2 + 2^−1 = 1.193. One step earlier it
    # was ln 3 + 2^−1 = 1.599 against ln 2 + 2^0 = 1.693.
    found = memory(state([4], [(1, 18, 2), (2, 19, 1)], step=19), half_life=1.0)
    assert found.retrieve(top_k=2)[0].tolist() == [4, 2]
    found.update(3)
    assert long_term(found) == [[1, 18, 2], [3, 20, 1]]


def test_an_item_without_content_is_written_where_it_surprises() -> None:
    found = fed([6, 7, 6], losses=[0.49, 0.5, 3.0], long_term_capacity=9)
    assert long_term(found) == [[7, 2, 1], [6, 3, 1]]
    assert found.statistics().surprises == 2


def test_an_item_without_content_does_not_surprise_by_default() -> None:
    assert long_term(fed([6, 7])) == []


def test_the_loss_of_an_item_with_content_is_not_read() -> None:
    assert long_term(fed([1, 1], losses=[0.0, 9.0])) == [[1, 1, 1]]
    assert fed([1, 1], losses=[9.0, 9.0]).statistics().surprises == 0


def test_a_surprise_that_comes_again_is_merged_by_its_id_alone() -> None:
    found = fed([6, 7, 6], losses=[1.0, 1.0, 1.0])
    assert long_term(found) == [[6, 3, 2], [7, 2, 1]]
    assert found.state.counters.tolist() == [3, 2, 1, 0, 3]


def test_items_without_content_do_not_make_another_item_less_novel() -> None:
    assert long_term(fed([6, 1], threshold=1.0)) == [[1, 2, 1]]


def test_a_quarter_of_what_is_read_is_the_latest_and_the_rest_the_most_useful() -> None:
    # At step 20 utilities are: 1: ln 2 + 2^−1, 2: ln 5 + 2^−1, 3: ln 3 + 2^−1.
    entries = [(1, 10, 1), (2, 10, 4), (3, 10, 2)]
    found = memory(state([5, 6, 7], entries, step=20), long_term_capacity=3)
    items, mask = found.retrieve()
    assert items.tolist() == [7, 2, 3, 1]
    assert mask.all()


def test_several_of_the_short_term_tier_come_latest_first() -> None:
    found = memory(state([5, 6, 7], [(1, 10, 1), (2, 10, 4)], step=20), short_term_share=0.5)
    assert found.retrieve()[0].tolist() == [7, 6, 2, 1]


def test_the_share_of_the_short_term_tier_is_rounded_up() -> None:
    entries = [(1, 10, 1), (2, 10, 4), (3, 10, 2)]
    found = memory(state([5, 6, 7], entries, step=20), long_term_capacity=3)
    assert found.retrieve(top_k=5)[0].tolist() == [7, 6, 2, 3, 1]
    assert found.retrieve(top_k=1)[0].tolist() == [7]


def test_the_short_term_tier_fills_up_where_the_long_term_tier_is_short() -> None:
    found = memory(state([5, 6, 7], [(2, 10, 4)], step=20))
    assert found.retrieve()[0].tolist() == [7, 2, 6, 5]


def test_no_item_is_read_twice() -> None:
    found = memory(state([2, 7, 7], [(7, 10, 1), (2, 10, 4)], step=20), short_term_share=0.5)
    items, mask = found.retrieve()
    assert items.tolist() == [7, 2, 0, 0]
    assert mask.tolist() == [True, True, False, False]


def test_reading_changes_nothing() -> None:
    found = fed([1, 2, 3, 4, 1])
    before = found.state
    assert found.retrieve()[0].tolist() == found.retrieve()[0].tolist()
    assert equal(found.state, before)


def test_statistics_count_what_happened() -> None:
    # Writes: 1, 2, 3 (evicts), 4 (evicts), then 6 surprises (evicts), 7 does not, 1 again (evicts).
    found = fed([1, 2, 3, 4, 6, 7, 1, 1], losses=[0, 0, 0, 0, 1, 0, 0, 0]).statistics()
    assert (found.st_size, found.st_capacity) == (3, 3)
    assert (found.lt_size, found.lt_capacity) == (2, 2)
    assert found.ingested == 8
    assert (found.promotions, found.merges, found.evictions, found.surprises) == (6, 0, 4, 1)
    assert found.writes == 6
    assert found.write_ratio == 0.75


def test_statistics_of_nothing_are_zero() -> None:
    assert memory().statistics().write_ratio == 0.0


def test_statistics_count_what_was_ingested() -> None:
    assert fed([1, 2, 3, 4, 1]).statistics().ingested == 5


@pytest.mark.parametrize("item", [-1, 0, 8])
def test_an_item_that_is_not_in_the_catalogue_is_refused(item: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 7"):
        memory().update(item)


def test_a_state_that_was_handed_out_is_never_changed() -> None:
    found = memory(state([4], [(1, 10, 1), (2, 18, 1)], step=19))
    before = found.state
    copy = MemoryState(*(value.copy() for value in vars(before).values()))
    found.extend(np.array([5, 3, 1, 2, 6]), np.ones(5), read_at=[0, 3])
    assert equal(before, copy)
    assert not equal(found.state, before)


# Cosines between these are exact in any order of summation, so that even ties agree: 40 items of
# five directions, item 0 for padding, every seventh without content.
DIRECTIONS = np.array(
    [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0.5, 0.5, 0.5, 0.5],
        [-0.5, 0.5, 0.5, 0.5],
        [0.5, -0.5, 0.5, 0.5],
    ],
    np.float32,
)
MANY = DIRECTIONS[np.arange(41) % 5] * (np.arange(41) % 7 > 0)[:, None]


def draw_history(seed: int, length: int, items: int) -> list[tuple[int, float]]:
    generator = np.random.default_rng(seed)
    losses = generator.choice([0.0, 0.4, 0.5, 2.0], size=length)
    return list(zip(generator.integers(1, items + 1, size=length).tolist(), losses, strict=True))


HISTORIES = st.builds(
    draw_history, st.integers(0, 10**6), st.integers(0, 80), st.sampled_from([3, 12, 40])
)
ALL_RULES = st.builds(
    replace,
    st.just(RULES),
    short_term_capacity=st.integers(1, 6),
    long_term_capacity=st.integers(1, 5),
    merge_similarity=st.sampled_from([0.4, 0.5, 0.74, 1.0, 1.1]),
    half_life=st.sampled_from([0.1, 0.7, 5.0, 200.0]),
    top_k=st.just(1),
    short_term_share=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
THRESHOLDS = st.sampled_from([0.0, 0.3, 0.5, 1.0, 1.5])


class Plain:
    """The rules once more, without any thought of speed."""

    def __init__(self, rules: MemorySettings, threshold: float) -> None:
        self.rules, self.threshold = rules, threshold
        self.short: list[int] = []
        self.long: list[dict[str, int]] = []
        self.step = self.promotions = self.merges = self.evictions = self.surprises = 0

    def cosines(self, item: int, others: list[int]) -> list[float]:
        """−inf where the other item has no content."""
        return [float(MANY[item] @ MANY[o]) if MANY[o].any() else -math.inf for o in others]

    def utility(self, entry: dict[str, int]) -> float:
        age = self.step - entry["step"]
        return math.log(1 + entry["frequency"]) + math.exp(
            -age * math.log(2) / self.rules.half_life
        )

    def is_written(self, item: int, loss: float) -> bool:
        if not MANY[item].any():
            return loss >= self.rules.surprise_threshold
        known = [c for c in self.cosines(item, self.short) if c > -math.inf]
        return 1 - max(known, default=0.0) >= self.threshold

    def entry_to_merge_into(self, item: int) -> dict[str, int] | None:
        for entry in self.long:
            if entry["item"] == item:
                return entry
        if not MANY[item].any() or not self.long:
            return None
        cosines = self.cosines(item, [entry["item"] for entry in self.long])
        nearest = cosines.index(max(cosines))
        return self.long[nearest] if cosines[nearest] >= self.rules.merge_similarity else None

    def update(self, item: int, loss: float) -> None:
        written = self.is_written(item, loss)
        self.step += 1
        if written:
            self.surprises += not MANY[item].any()
            self.write(item)
        self.short = [*self.short, item][-self.rules.short_term_capacity :]

    def write(self, item: int) -> None:
        entry = self.entry_to_merge_into(item)
        if entry:
            entry["frequency"] += 1
            entry["step"] = self.step
            self.merges += 1
            return
        if len(self.long) == self.rules.long_term_capacity:
            self.long.remove(min(self.long, key=self.utility))
            self.evictions += 1
        self.long.append({"item": item, "step": self.step, "frequency": 1})
        self.promotions += 1

    def retrieve(self, top_k: int) -> list[int]:
        latest = self.short[::-1]
        share = math.ceil(top_k * self.rules.short_term_share)
        useful = [e["item"] for e in sorted(self.long, key=self.utility, reverse=True)]
        distinct = list(dict.fromkeys([*latest[:share], *useful, *latest[share:]]))[:top_k]
        return distinct + [0] * (top_k - len(distinct))


@given(HISTORIES, ALL_RULES, THRESHOLDS, st.integers(1, 8))
@check(max_examples=150, deadline=None, derandomize=True)
def test_the_memory_agrees_with_a_plain_implementation(
    history: list[tuple[int, float]], rules: MemorySettings, threshold: float, top_k: int
) -> None:
    plain = Plain(rules, threshold)
    reads = [plain.retrieve(top_k)]
    for item, loss in history:
        plain.update(item, loss)
        reads.append(plain.retrieve(top_k))
    found = TwoTierMemory(rules, threshold, MANY)
    items = np.array([item for item, _ in history], dtype=np.int64)
    losses = np.array([loss for _, loss in history])
    read = found.extend(items, losses, read_at=range(len(history) + 1), top_k=top_k)
    assert read.tolist() == reads
    assert short_term(found) == plain.short
    assert long_term(found) == [[e["item"], e["step"], e["frequency"]] for e in plain.long]
    counters = [plain.step, plain.promotions, plain.merges, plain.evictions, plain.surprises]
    assert found.state.counters.tolist() == counters
    assert found.retrieve(top_k)[0].tolist() == reads[-1]


@given(HISTORIES, ALL_RULES, THRESHOLDS, st.lists(st.integers(0, 80), max_size=4))
@check(max_examples=80, deadline=None, derandomize=True)
def test_one_at_a_time_at_once_and_in_any_split_are_the_same(
    history: list[tuple[int, float]], rules: MemorySettings, threshold: float, cuts: list[int]
) -> None:
    items = np.array([item for item, _ in history], dtype=np.int64)
    losses = np.array([loss for _, loss in history])
    at_once, one_by_one = (TwoTierMemory(rules, threshold, MANY) for _ in range(2))
    at_once.extend(items, losses)
    for item, loss in history:
        one_by_one.update(item, loss)
    handed_over = MemoryState.empty()
    ends = sorted(min(cut, len(history)) for cut in [0, *cuts, len(history)])
    for start, end in pairwise(ends):
        part = TwoTierMemory(rules, threshold, MANY, handed_over)
        part.extend(items[start:end], losses[start:end])
        handed_over = part.state
    assert equal(one_by_one.state, at_once.state)
    assert equal(handed_over, at_once.state)


@pytest.mark.parametrize("seed", range(5))
def test_any_split_is_the_same_with_vectors_of_every_direction(seed: int) -> None:
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(51, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = generator.integers(1, 51, size=200)
    rules = replace(RULES, short_term_capacity=5, long_term_capacity=8)
    at_once, in_parts = (TwoTierMemory(rules, 0.45, vectors) for _ in range(2))
    at_once.extend(items)
    for part in np.split(items, [1, 7, 90, 91]):
        in_parts.extend(part)
    assert equal(in_parts.state, at_once.state)
    assert at_once.statistics().evictions > 0
    assert at_once.statistics().merges > 0
