"""What trackers report of a run: figures by name; what comes before a slash groups them."""

from __future__ import annotations

from collections.abc import Mapping

from fedmem.core.memory import MemoryStatistics
from fedmem.runs.records import Observer, RoundRecord, StageResult

COUNTS = ("seconds", "users", "left_out", "bytes_down", "bytes_up")


class Tracker(Observer):
    """Reports the figures of every round, and those of a stage's test at its best round."""

    def on_round(self, record: RoundRecord) -> None:
        """Report a round."""
        self._report(record.stage, record.round, figures_of(record))

    def on_result(self, result: StageResult) -> None:
        """Report the figures on the test items."""
        figures = {f"test/{name}": value for name, value in result.test.items()}
        self._report(result.stage, result.best_round, figures)

    def _report(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        raise NotImplementedError


def figures_of(record: RoundRecord) -> dict[str, float]:
    """Figures of a round; the first is one that every round has.

    Those of the memories say how full both tiers are, and give long-term writes per interaction.
    """
    found = {name: float(getattr(record, name)) for name in COUNTS}
    if record.loss is not None:
        found["loss"] = record.loss
    found |= {f"validation/{name}": value for name, value in (record.validation or {}).items()}
    if record.memory:
        memory = MemoryStatistics(**{name: int(value) for name, value in record.memory.items()})
        found["memory/st_full"] = memory.st_size / memory.st_capacity
        found["memory/lt_full"] = memory.lt_size / memory.lt_capacity
        found["memory/write_ratio"] = memory.write_ratio
    return found
