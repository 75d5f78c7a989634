"""Peers train what fedmem trains, and figures of one that does not are void."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from peers import STAGE, Ran, run_peer, tabulate, write_work
from systems import Start

from fedmem.core.data.sampling import participants, sample_round
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import find_stage
from fedmem.core.training.batches import RoundKey
from fedmem.core.updates.cohort import train_cohort
from fedmem.strategies import ServerOptimizer

MakeSettings = Callable[..., Settings]


def test_a_peer_has_fedmems_losses(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings("model.dropout=0.0", "federation.fraction=0.3")
    write_work(settings, 2, tmp_path / "work.npz")
    found = run_peer(Path(sys.executable), "bare loop", tmp_path / "work.npz")
    assert len(found.seconds) == len(found.losses) == 2
    stage, node, users = find_stage(STAGE), Node(settings), participants(settings)
    parameters = Start.of(settings, stage, node).parameters
    optimizer = ServerOptimizer(settings.strategy)
    for number, loss in enumerate(found.losses, start=1):
        node.load(stage, parameters, "frozen")
        sampled = sample_round(users, 0.3, settings.seed, STAGE, number)
        key = RoundKey(settings.seed, STAGE, number)
        update = train_cohort(node.trainer(stage), sampled, key)
        assert loss == pytest.approx(update.loss, rel=1e-5)
        parameters = optimizer.step(parameters, update.change)


def test_figures_of_other_losses_are_void() -> None:
    own = Ran("fedmem", 0.2, [1.0, 2.0, 3.0], [7.0, 6.0], start=9.0)
    same = Ran("pfl", 0.2, [4.0], [7.05, 6.03], start=8.0)
    other = Ran("blazefl", 0.2, [1.0], [7.0, 6.1], start=8.0)
    watched = Ran("pfl", 0.2, [50.0], [7.0, 6.0], start=70.0, memory=800.0)
    table = tabulate([own, same, other, watched], "some data")
    cells = zip(*(column.cells for column in table.columns), strict=True)
    rows = {system: tuple(rest) for system, *rest in cells}
    assert rows["fedmem"] == ("2", "1×", "9", "–", "within 0.00%")
    assert rows["pfl"] == ("4", "2×", "8", "800", "within 0.71%")
    assert rows["blazefl"] == ("1", "0.5×", "8", "–", "VOID: 1.67%")
