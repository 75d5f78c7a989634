"""The tiny world, trained, with parameters that are all away from where they start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from fedmem.core.settings import Settings
from fedmem.serve.app import Desk
from tests.helpers.serving import client_of, desk_of, moved
from tests.helpers.shared_runs import TrainOnce


@pytest.fixture
def trained(make_settings: Callable[..., Settings], train_once: TrainOnce) -> Settings:
    """Settings whose checkpoints are there; γ of the memory is away from 0 too."""
    settings = make_settings()
    train_once(settings)
    for path in sorted(Path(settings.checkpoint.dir).glob("*.safetensors")):
        moved(path)
    return settings


@pytest.fixture
def desk(trained: Settings) -> Desk:
    return desk_of(trained)


@pytest.fixture
def client(desk: Desk) -> Iterator[TestClient]:
    with client_of(desk) as client:
        yield client
