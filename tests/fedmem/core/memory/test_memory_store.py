"""What a node remembers outlives its process, and is not mistaken for that of another run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedmem.core.errors import FedmemError
from fedmem.core.memory.memory_store import FILE, NodeStore, memory_key
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES

MakeSettings = Callable[..., Settings]


def test_memories_come_back_as_they_were_packed(settings: Settings, tmp_path: Path) -> None:
    node = Node(settings)
    bank = node.open_bank(0.8)
    node.ingest(STAGES["finetune_moe"], "validation")
    NodeStore(tmp_path / "new").put("key", bank.pack())
    found = NodeStore(tmp_path / "new").get("key")
    assert found is not None
    other = Node(settings)
    other.open_bank(0.8)
    other.restore(found)
    assert other.open_bank(0.8).stamp == bank.stamp
    assert all(np.array_equal(found[name], array) for name, array in bank.pack().items())


def test_the_latest_takes_the_place_of_the_one_before(settings: Settings, tmp_path: Path) -> None:
    bank = Node(settings).open_bank(0.8)
    store = NodeStore(tmp_path / "store")
    assert store.get("one") is None
    store.put("one", bank.empty())
    store.put("two", bank.empty())
    assert store.get("one") is None
    assert store.get("two") is not None
    assert len(list((tmp_path / "store").iterdir())) == 1


def test_damage_does_not_go_unnoticed(settings: Settings, tmp_path: Path) -> None:
    store = NodeStore(tmp_path)
    store.put("key", Node(settings).open_bank(0.8).empty())
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-1])
    with pytest.raises(FedmemError, match=FILE):
        store.get("key")


def test_a_key_tells_runs_apart_but_not_where_they_work(
    settings: Settings, make_settings: MakeSettings
) -> None:
    key = memory_key(settings, "frozen", "rules")
    moved = replace(
        settings,
        output_dir="elsewhere",
        simulation=replace(settings.simulation, workers=1),
        checkpoint=replace(settings.checkpoint, dir="elsewhere"),
        data=replace(settings.data, dir="elsewhere"),
    )
    assert memory_key(moved, "frozen", "rules") == key
    others = [
        memory_key(make_settings("seed=1"), "frozen", "rules"),
        memory_key(make_settings("strategy.learning_rate=0.1"), "frozen", "rules"),
        memory_key(settings, "other", "rules"),
        memory_key(settings, "frozen", "other"),
    ]
    assert len({key, *others}) == 5
