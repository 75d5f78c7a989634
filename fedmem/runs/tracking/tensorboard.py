"""TensorBoard's events of a run: `tensorboard --logdir runs`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from torch.utils.tensorboard import SummaryWriter

from fedmem.runs.folder import EVENTS
from fedmem.runs.records import RoundRecord
from fedmem.runs.tracking import Tracker


class TensorBoard(Tracker):
    """Writes events anew into a folder for each stage, a step a round.

    The stages are runs to TensorBoard, so that their curves lie on one axis. The rounds that are
    reported first took `behind` seconds before the run was stopped: their events are dated back,
    as if it never had been.
    """

    def __init__(self, folder: Path, behind: float) -> None:
        self._folder = folder / EVENTS
        self._behind = behind
        self._writers: dict[str, SummaryWriter] = {}

    def __enter__(self) -> Self:
        if self._folder.is_dir():
            shutil.rmtree(self._folder)
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            with suppress(OSError):  # all is written, or has been complained of
                writer.close()

    def on_round(self, record: RoundRecord) -> None:
        """Report a round, at the time at which it ended."""
        self._behind = max(self._behind - record.seconds, 0.0)
        super().on_round(record)

    def _report(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        folder, now = self._folder / stage, time.time() - self._behind
        try:
            if stage not in self._writers:
                # From step 0 on a TensorBoard that is looking on forgets what it has shown.
                self._writers[stage] = SummaryWriter(folder, purge_step=0)
            for name, value in figures.items():
                self._writers[stage].add_scalar(name, value, step, walltime=now)
            self._writers[stage].flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder)) from error
