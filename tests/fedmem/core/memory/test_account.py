"""The account of a memory says what the memory itself holds, and why."""

from __future__ import annotations

import numpy as np
import pytest

from fedmem.core.memory import TwoTierMemory, account_of
from fedmem.core.memory.kernel import FREQUENCY, ITEM, STEP
from fedmem.core.memory.novelty import catalogue_of
from fedmem.core.settings import MemorySettings
from tests.helpers.settings import composed


@pytest.fixture
def rules() -> MemorySettings:
    overrides = [
        "memory.short_term_capacity=3",
        "memory.long_term_capacity=4",
        "memory.threshold=0.5",
        "memory.merge_similarity=0.9",
        "memory.top_k=5",
    ]
    return composed(*overrides).memory


def test_it_agrees_with_the_memory_and_knows_where_entries_come_from(rules: MemorySettings) -> None:
    generator = np.random.default_rng(3)
    vectors = generator.normal(size=(41, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[[0, 9, 17]] = 0
    history = generator.integers(1, 41, size=120).astype(np.int32)
    losses = generator.uniform(0, 1, size=120)
    memory = TwoTierMemory(rules, 0.5, vectors)
    memory.extend(history, losses)
    account = account_of(rules, 0.5, catalogue_of(vectors), history, losses)
    assert account.short_term == memory.state.short_term.tolist()
    assert account.evicted == memory.statistics().evictions > 0
    assert [e.item for e in account.long_term] == memory.state.long_term[:, ITEM].tolist()
    for entry, kept in zip(account.long_term, memory.state.long_term, strict=True):
        assert entry.step == kept[STEP]
        assert len(entry.merged) == kept[FREQUENCY] - 1
        age = len(history) - entry.step
        expected = np.log1p(kept[FREQUENCY]) + np.exp(-age * np.log(2) / rules.half_life)
        assert entry.utility == pytest.approx(expected)
        assert (entry.novelty is None) == (entry.item in (9, 17))
        assert (entry.loss is None) == (entry.novelty is not None)
        if entry.novelty is not None:
            assert entry.novelty >= 0.5
    utilities = [entry.utility for entry in account.long_term]
    assert [e.is_next for e in account.long_term].index(True) == int(np.argmin(utilities))
    assert sum(e.is_next for e in account.long_term) == 1


def test_what_was_merged_is_named(rules: MemorySettings) -> None:
    vectors = np.array([[0, 0], [1, 0], [0, 1], [0.999, 0.0447]], dtype=np.float32)
    history = np.array([1, 2, 2, 2, 3], dtype=np.int32)  # 3 is like 1, which has left ST
    account = account_of(rules, 0.5, catalogue_of(vectors), history, np.zeros(5))
    (first, second) = account.long_term
    assert (first.item, first.merged, first.step) == (1, [3], 5)
    assert (second.item, second.merged) == (2, [])
    assert first.novelty == pytest.approx(1.0)
    assert not any(entry.is_next for entry in account.long_term)  # there is room
