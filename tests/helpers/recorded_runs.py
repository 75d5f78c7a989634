"""What the folder of a finished run records, written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fedmem.report.runs import RecordedRun

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
