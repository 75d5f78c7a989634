"""Trackers: observers that report a run to TensorBoard and MLflow, as `tracking` asks for.

They report what the run's folder holds. When a run goes on they are first brought to where it
stands, from `metrics.jsonl`, so that no round is reported twice and none is missing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from importlib import util

from fedmem.core.errors import FedmemError
from fedmem.core.memory import MemoryStatistics
from fedmem.core.settings import Settings, TrackingSettings
from fedmem.runs.folder import RunFolder
from fedmem.runs.records import Observer, RoundRecord, StageResult

COUNTS = ("seconds", "users", "left_out", "bytes_down", "bytes_up")


def require_installed(tracking: TrackingSettings) -> None:
    """Check that the trackers that are asked for are installed.

    Raises:
        FedmemError: MLflow is asked for and is not installed.
    """
    if tracking.mlflow and util.find_spec("mlflow") is None:
        raise FedmemError("tracking.mlflow=true needs MLflow: pip install mlflow-skinny.")


@contextlib.contextmanager
def trackers(settings: Settings, folder: RunFolder) -> Iterator[list[Observer]]:
    """The trackers that `tracking` asks for, which may be none, brought to where the run stands.

    Raises:
        FedmemError: MLflow is not installed, or its store does not answer.
        OSError: the disk does not take TensorBoard's events.
    """
    require_installed(settings.tracking)
    past = [RoundRecord(**line) for stage in settings.stage for line in folder.rounds(stage)]
    found: list[Observer] = []
    with contextlib.ExitStack() as opened:
        if settings.tracking.tensorboard:
            from fedmem.runs.tracking.tensorboard import TensorBoard  # nobody else need wait for it

            behind = sum(record.seconds for record in past)
            found.append(opened.enter_context(TensorBoard(folder.path, behind)))
        if settings.tracking.mlflow:
            from fedmem.runs.tracking.mlflow import MLflow  # takes seconds

            found.append(opened.enter_context(MLflow(settings, folder)))
        for tracker in found:
            for record in past:
                tracker.on_round(record)
            for result in folder.results:
                tracker.on_result(result)
        yield found


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
    """Figures of a round, the first of which every round has; before a slash stands their group.

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
