"""The figures of a run that trackers report, by name; what comes before a slash groups them."""

from __future__ import annotations

from collections.abc import Mapping

from fedmem.core.memory import MemoryStatistics
from fedmem.runs.records import RoundRecord, StageResult

COUNTS = ("seconds", "users", "left_out", "bytes_down", "bytes_up")


def of_round(record: RoundRecord) -> dict[str, float]:
    """Figures of a round; the first is one that every round has."""
    found = {name: float(getattr(record, name)) for name in COUNTS}
    if record.loss is not None:
        found["loss"] = record.loss
    for name, value in (record.validation or {}).items():
        found[f"validation/{name}"] = value
    return found | _of_memory(record.memory)


def of_result(result: StageResult) -> dict[str, float]:
    """Figures of a stage on the test items, by the parameters of its best round."""
    return {f"test/{name}": value for name, value in result.test.items()}


def _of_memory(sums: Mapping[str, float] | None) -> dict[str, float]:
    """How full both tiers of all memories are, and long-term writes per interaction."""
    if not sums:
        return {}
    memory = MemoryStatistics(**{name: int(value) for name, value in sums.items()})
    return {
        "memory/st_full": memory.st_size / memory.st_capacity,
        "memory/lt_full": memory.lt_size / memory.lt_capacity,
        "memory/write_ratio": memory.write_ratio,
    }
