"""The tiny world of `tests.helpers.small_world`, afresh for each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fedmem.core.settings import Settings
from tests.helpers.settings import composed_once
from tests.helpers.small_world import SMALL, write_small_data


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_small_data(folder)
    return folder


@pytest.fixture
def make_settings(data_dir: Path, tmp_path: Path) -> Callable[..., Settings]:
    """Settings of the tiny world, with overrides as on the command line."""

    def make(*overrides: str) -> Settings:
        own = [f"data.dir={data_dir}", f"checkpoint.dir={tmp_path / 'checkpoints'}"]
        return composed_once(tmp_path, f"output_dir={tmp_path / 'run'}", *SMALL, *own, *overrides)

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()
