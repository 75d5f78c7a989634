"""Runs as their folders tell of them, written by hand."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fedmem.report.runs import RecordedRun
from fedmem.runs.configuration import compose_settings
from tests.helpers.recorded_runs import MakeRun, result, rounds


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A finished run of one stage, with overrides of its settings."""

    def make(*overrides: str, folder: str = "a/0", hr: float = 0.5, **others: Any) -> RecordedRun:
        settings = compose_settings(overrides)
        about: dict[str, Any] = {
            "folder": tmp_path / folder,
            "settings": asdict(settings),
            "results": [result("pretrain_sasrec", hr)],
            "rounds": rounds("pretrain_sasrec", [0.1, 0.2, 0.3, hr]),
            "standing": None,
            "hashes": {},
            "users": settings.federation.num_clients,
            "place": f"{settings.data.dir}/{settings.data.path}",
            "people": None,
            "novelty": None,
            "ranks": {},
            "cold_ranks": {},
            "made_with": None,
        }
        return RecordedRun(**about | others)

    return make
