"""The tiny world of `tests.helpers.small_world`: afresh for each test, or trained once for all."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fedmem.core.settings import Settings
from tests.helpers.in_process_grid import run_in_process
from tests.helpers.secure_runs import ASKED, Ran, own_folder
from tests.helpers.settings import small_settings
from tests.helpers.shared_runs import TrainOnce, WholeRun
from tests.helpers.small_world import write_small_data

PROCESSES = (
    "test_cluster",
    "test_deployment",
    "test_federation_demo",
    "test_secure_deployment",
    "test_simulate",
)
"""Modules whose tests start processes that fill a machine of two cores."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run side by side, those of `PROCESSES` take turns.

    They come early, but after those of the kernels, which compile what each process of a fresh
    clone would compile for itself otherwise.
    """
    for item in items:
        if item.path.stem in PROCESSES:
            item.add_marker(pytest.mark.xdist_group("processes"))
    items.sort(key=_order)


def _order(item: pytest.Item) -> int:
    if {"kernels", "memory"} & {folder.name for folder in item.path.parents}:
        return 0
    return 1 if item.path.stem in PROCESSES else 2


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write_small_data(folder)
    return folder


@pytest.fixture
def make_settings(data_dir: Path) -> Callable[..., Settings]:
    """Settings of the tiny world, with overrides as on the command line."""

    def make(*overrides: str) -> Settings:
        return small_settings(data_dir.parent, *overrides)

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> WholeRun:
    """All stages with the settings of `settings`."""
    place = tmp_path_factory.mktemp("whole_run")
    write_small_data(place / "data")
    torch.set_num_threads(1)
    return WholeRun.of(small_settings(place))


@pytest.fixture(scope="session")
def train_once(tmp_path_factory: pytest.TempPathFactory) -> TrainOnce:
    return TrainOnce(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def make_masked(make_settings: Callable[..., Settings], tmp_path: Path) -> Callable[..., Settings]:
    """Settings of runs under masks, each with a folder of its own."""
    made = itertools.count()

    def make(*overrides: str) -> Settings:
        return make_settings(*ASKED, *own_folder(tmp_path / f"run-{next(made)}"), *overrides)

    return make


@pytest.fixture(scope="session")
def masked_run(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run under masks, whose nodes may be asked again."""
    place = tmp_path_factory.mktemp("masked")
    write_small_data(place / "data")
    torch.set_num_threads(1)
    settings = small_settings(place, *ASKED, *own_folder(place / "run"))
    _, watcher, grid = run_in_process(settings)
    return Ran(settings, watcher.records, grid)
