"""Writes and shows the rounds that have ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from fedmem.runs.folder import RunFolder
from fedmem.runs.records import Observer, RoundRecord
from fedmem.runs.stage_progress import StageProgress


class RoundReporter:
    """Keeps a round that has ended until there is time to write it: while nodes train in the next.

    A run that is killed before begins again with the round that was not written.

    Args:
        folder: of the run, open.
        observers: notified of a round once it is written.
        stage: name of the stage.

    Attributes:
        records: of the stage's rounds that are written, also by an earlier process.
    """

    def __init__(self, folder: RunFolder, observers: Sequence[Observer], stage: str) -> None:
        self._folder = folder
        self._observers = observers
        self._ended: tuple[RoundRecord, StageProgress] | None = None
        self.records = [RoundRecord(**record) for record in folder.rounds(stage)]

    def ended(self, record: RoundRecord, progress: StageProgress) -> None:
        """Keep what a round came to, for the next `report`."""
        self._ended = record, progress

    def report(self) -> None:
        """Write the round that has ended, if there is one, and notify the observers."""
        if self._ended is None:
            return
        (record, progress), self._ended = self._ended, None
        self.records.append(record)
        self._folder.end_round(asdict(record), progress)
        for observer in self._observers:
            observer.on_round(record)
