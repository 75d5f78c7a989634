"""What a run writes and shows of a stage: its start, every round, its checkpoint and its result."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.evaluation.outcomes import Evaluation, save_outcomes
from fedmem.core.model.parameters import Parameters
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.runs.folder import RunFolder
from fedmem.runs.records import Observer, RoundRecord, StageResult
from fedmem.runs.stage_progress import StageProgress

WRITING_SHARE = 0.05
"""Share of the time that writing may take: rounds that are short are written several at a time."""


class StageReporter:
    """Writes a stage into the open folder of its run, and notifies observers of each round.

    A round that has ended is kept until there is time to write it: while nodes train in the next,
    or in a later one where rounds are short, see `WRITING_SHARE`. A run that is killed before
    begins again with the first round that was not written.

    Not so a private round: other nodes may be there when it is repeated, and the difference of two
    sums under the same noise is free of it. So it is written before anybody sees its parameters,
    and a round that is repeated is one that nobody has seen.
    """

    def __init__(self, folder: RunFolder, observers: Sequence[Observer], stage: Stage) -> None:
        self._folder = folder
        self._observers = observers
        self._stage = stage
        self._ended: tuple[RoundRecord, StageProgress] | None = None
        self._unwritten: list[RoundRecord] = []
        self._latest: StageProgress | None = None
        self._due = 0.0
        self._records = [RoundRecord(**record) for record in folder.rounds(stage.name)]
        self._began = time.monotonic() - sum(record.seconds for record in self._records)

    def begin(self, progress: StageProgress) -> None:
        """Notify the observers of the stage, where it stands before its next round."""
        trained = sum(value.numel() for value in progress.parameters.values())
        for observer in self._observers:
            observer.on_stage(self._stage, progress.schedule.last, trained, max(progress.round, 0))

    def ended(self, record: RoundRecord, progress: StageProgress) -> None:
        """Keep what a round came to, for the next `report`; a private one is written at once."""
        self._ended = record, progress
        if progress.ledger is not None:
            self.report()

    def trained(self, record: RoundRecord, progress: StageProgress) -> None:
        """Before nodes validate what a round has made: write it where it is private."""
        if progress.ledger is not None and record.round:  # round 0 has made nothing
            self._folder.keep_progress(replace(progress, awaiting=record))

    def report(self) -> None:
        """Write the round that has ended, if there is one, and notify the observers.

        Raises:
            OSError: the disk does not take it.
        """
        if self._ended is None:
            return
        (record, progress), self._ended = self._ended, None
        self._records.append(record)
        self._unwritten.append(record)
        self._latest = progress
        if progress.ledger is not None or time.monotonic() >= self._due:
            self._write()
        for observer in self._observers:
            observer.on_round(record)

    def end(self) -> None:
        """Write all that is not written, after the last round or where the run breaks off.

        Raises:
            OSError: the disk does not take it.
        """
        self.report()
        self._write()

    def _write(self) -> None:
        if self._latest is None:
            return
        began, records = time.monotonic(), list(map(asdict, self._unwritten))
        latest, self._latest = self._latest, None
        self._unwritten.clear()
        self._folder.end_rounds(records, latest)
        ended = time.monotonic()
        self._due = ended + (ended - began) / WRITING_SHARE

    def finish(
        self,
        settings: Settings,
        progress: StageProgress,
        test: Evaluation,
        catalogue: str,
        frozen: Parameters | None = None,
        parents: Mapping[str, str] | None = None,
        content: str = "",
    ) -> StageResult:
        """Write what the stage leaves behind, the checkpoint of its best round first.

        Args:
            settings: of the run.
            progress: of the stage, whose rounds are over.
            test: ranking of the test items by the best round.
            catalogue: fingerprint of the items.
            frozen: parameters outside the scope.
            parents: content hash of each checkpoint that the stage started from, by stage.
            content: hash of the item features that it was trained with.
        """
        assert progress.best is not None
        if test.outcomes:
            save_outcomes(self._folder.path, progress.stage, test.outcomes)
        checkpoint = Checkpoint(
            stage=progress.stage,
            catalogue=catalogue,
            model=settings.model,
            round=progress.best_round,
            metrics=progress.best_validation,
            parents=dict(parents or {}),
            parameters={**(frozen or {}), **progress.best},
            released=None if progress.ledger is None else progress.ledger.entries,
            delta=None if progress.ledger is None else progress.ledger.delta,
            content=content,
        )
        path = Path(settings.checkpoint.dir) / f"{progress.stage}.safetensors"
        checkpoint.save(path)
        messages = max(sum(record.messages for record in self._records), 1)
        result = StageResult(
            stage=progress.stage,
            rounds=progress.round,
            best_round=progress.best_round,
            trained_parameters=sum(value.numel() for value in progress.best.values()),
            bytes_down=sum(r.bytes_down - r.bytes_frozen for r in self._records) / messages,
            bytes_up=sum(r.bytes_up for r in self._records) / messages,
            seconds=time.monotonic() - self._began,
            test_seconds=test.seconds,
            test_bytes=test.bytes,
            validation=progress.best_validation,
            test=test.metrics,
            threshold=progress.threshold,
            memory=test.memory,
            checkpoint=str(path),
            stopped=progress.trouble,
            epsilon=None if progress.ledger is None else progress.ledger.epsilon,
            ranked_users=test.users,
            drawn_from=test.drawn_from,
        )
        self._folder.keep_checkpoint(progress.stage, path)
        self._folder.end_stage(asdict(result), checkpoint.hash, progress.ledger)
        for observer in self._observers:
            observer.on_result(result)
        return result
