"""Runs as their folders tell of them, written by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fedmem.report.runs import RecordedRun
from fedmem.runs.configuration import compose_settings

MakeRun = Callable[..., RecordedRun]


def result(stage: str, hr: float, **others: Any) -> dict[str, Any]:
    """A stage's result: HR and NDCG are alike, `full` is half of `sampled`."""
    test = {f"sampled/{metric}@10": hr for metric in ("HR", "NDCG")}
    test |= {f"full/{metric}@10": hr / 2 for metric in ("HR", "NDCG")}
    return {
        "stage": stage,
        "rounds": 4,
        "best_round": 2,
        "trained_parameters": 1234,
        "seconds": 61.0,
        "threshold": None,
        "test": test,
        "memory": None,
        "checkpoint": "gone.safetensors",
        **others,
    }


def rounds(stage: str, values: list[float], first: int = 1) -> list[dict[str, Any]]:
    """Rounds of which each validates, and moves 1 MB down and 2 up."""
    return [
        {
            "stage": stage,
            "round": first + place,
            "bytes_down": 1_000_000,
            "bytes_up": 2_000_000,
            "validation": {"sampled/HR@10": value},
            "memory": None,
        }
        for place, value in enumerate(values)
    ]


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
            "novelty": None,
            "ranks": {},
            "cold_ranks": {},
            "made_with": None,
        }
        return RecordedRun(**about | others)

    return make
