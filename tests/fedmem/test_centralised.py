"""Training on pooled data, on the tiny ones: it learns, stops, keeps the best, and writes a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedmem.centralised import CENTRALISED, run, train_centrally
from fedmem.checkpoint import Checkpoint
from fedmem.evaluation import means
from fedmem.outcomes import load_ranks
from fedmem.settings import Settings
from fedmem.stages import PRETRAIN_SASREC
from tests.in_process_grid import Watcher

MakeSettings = Callable[..., Settings]


def test_it_differs_from_stage_1_by_name_alone() -> None:
    assert replace(CENTRALISED, name=PRETRAIN_SASREC.name) == PRETRAIN_SASREC


def test_it_writes_what_a_run_writes_and_its_checkpoint_passes_for_no_stage(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings("centralised.epochs=8", "centralised.batch=10")
    (result,) = run(settings)
    folder = Path(settings.output_dir)
    written = json.loads((folder / "results.json").read_text())["stages"]
    assert [stage["test"] for stage in written] == [result.test]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == list(range(1, 9))
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert means(load_ranks(folder)["centralised"].sums()) == pytest.approx(result.test)
    checkpoint = Checkpoint.load(tmp_path / "checkpoints" / "centralised.safetensors")
    assert (checkpoint.stage, checkpoint.round) == ("centralised", result.best_round)
    assert checkpoint.metrics == result.validation


def test_the_best_epoch_is_kept_and_patience_ends_it(make_settings: MakeSettings) -> None:
    settings = make_settings(
        "centralised.epochs=60", "centralised.learning_rate=0.3", "strategy.patience=3"
    )
    Path(settings.output_dir).mkdir()
    watcher = Watcher()
    result = train_centrally(settings, [watcher])
    scores = [record.validation["sampled/HR@10"] for record in watcher.records if record.validation]
    assert result.rounds == result.best_round + 3 < 60
    assert scores[result.best_round - 1] == max(scores) == result.validation["sampled/HR@10"]


def test_every_target_is_trained_on_once_an_epoch(make_settings: MakeSettings) -> None:
    settings = make_settings("centralised.epochs=1", "centralised.batch=7", "model.max_length=4")
    Path(settings.output_dir).mkdir()
    watcher = Watcher()
    train_centrally(settings, [watcher])
    lines = (Path(settings.data.dir) / "ratings.dat").read_text().splitlines()
    assert watcher.records[0].targets == len(lines) - 3 * 24  # less the first and the held-out two
