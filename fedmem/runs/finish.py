"""How a stage ends: the test ranking is kept, the checkpoint written, the result noted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.evaluation.outcomes import Evaluation, save_outcomes
from fedmem.core.model.parameters import Parameters
from fedmem.core.settings import Settings
from fedmem.runs.folder import RunFolder
from fedmem.runs.records import Observer, RoundRecord, StageResult
from fedmem.runs.stage_progress import StageProgress


def finish_stage(
    settings: Settings,
    folder: RunFolder,
    observers: Sequence[Observer],
    progress: StageProgress,
    records: Sequence[RoundRecord],
    frozen: Parameters,
    catalogue: str,
    parents: Mapping[str, str],
    test: Evaluation,
    seconds: float,
) -> StageResult:
    """Write what a stage leaves behind, the checkpoint of its best round first.

    Args:
        settings: of the run.
        folder: of the run, open.
        observers: notified of the result.
        progress: of the stage, whose rounds are over.
        records: of all of its rounds.
        frozen: parameters outside the scope.
        catalogue: fingerprint of the items.
        parents: content hash of each checkpoint that the stage started from, by stage.
        test: ranking of the test items by the best round.
        seconds: that the stage took.
    """
    assert progress.best is not None
    if test.outcomes:
        save_outcomes(folder.path, progress.stage, test.outcomes)
    checkpoint = Checkpoint(
        stage=progress.stage,
        catalogue=catalogue,
        model=settings.model,
        round=progress.best_round,
        metrics=progress.best_validation,
        parents=dict(parents),
        parameters={**frozen, **progress.best},
    )
    path = Path(settings.checkpoint.dir) / f"{progress.stage}.safetensors"
    checkpoint.save(path)
    messages = max(sum(record.messages for record in records), 1)
    result = StageResult(
        stage=progress.stage,
        rounds=progress.round,
        best_round=progress.best_round,
        trained_parameters=sum(value.numel() for value in progress.best.values()),
        bytes_down=sum(r.bytes_down - r.bytes_frozen for r in records) / messages,
        bytes_up=sum(r.bytes_up for r in records) / messages,
        seconds=seconds,
        test_seconds=test.seconds,
        validation=progress.best_validation,
        test=test.metrics,
        threshold=progress.threshold,
        memory=test.memory,
        checkpoint=str(path),
        stopped=progress.trouble,
    )
    folder.end_stage(asdict(result), checkpoint.hash)
    for observer in observers:
        observer.on_result(result)
    return result
