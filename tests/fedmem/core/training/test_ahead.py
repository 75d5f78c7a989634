"""Batches that are made in a thread are those that are made when they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.core.training import ahead
from fedmem.core.training.ahead import made_ahead
from fedmem.core.training.batches import RoundKey
from tests.helpers.small_world import ready_node

CPU = torch.device("cpu")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_results_come_in_order_and_no_more_than_asked_for_are_made_ahead(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ahead.AHEAD, "cpu", count)
    given: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(7):
            given.append(number)
            yield number

    found = []
    for square in made_ahead(lambda number: number**2, numbers(), CPU):
        assert len(given) <= len(found) + 1 + count
        found.append(square)
    assert found == [number**2 for number in range(7)]


def test_a_thread_makes_them_where_the_device_has_hands_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def threads() -> set[str]:
        return set(made_ahead(lambda _: threading.current_thread().name, range(3), CPU))

    assert threads() == {threading.current_thread().name}
    monkeypatch.setitem(ahead.AHEAD, "cpu", 1)
    assert threads() != {threading.current_thread().name}


def test_an_error_comes_where_its_result_would_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ahead.AHEAD, "cpu", 2)
    results = made_ahead(lambda number: 6 // number, [3, 2, 0, 1], CPU)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("stage", STAGES)
def test_a_round_has_the_same_bits(
    stage: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = RoundKey(3, stage, 1)
    updates = []
    for count in (0, 1):
        monkeypatch.setitem(ahead.AHEAD, "cpu", count)
        node = ready_node(settings, STAGES[stage])
        updates.append(node.trainer(STAGES[stage]).train_batch(node.users, key))
    assert updates[0].loss == updates[1].loss
    for name, change in updates[0].change.items():
        assert torch.equal(change, updates[1].change[name]), name
