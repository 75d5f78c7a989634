"""Training on pooled data, on the tiny ones: it learns, stops, keeps the best, and goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmem.centralised import CentralTraining, train_centrally
from fedmem.core.checkpoint import Checkpoint
from fedmem.core.data.id_files import read_users
from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.outcomes import load_outcomes
from fedmem.core.evaluation.protocol import USERS, means
from fedmem.core.settings import RunSettings, Settings
from fedmem.core.stages import CENTRALISED, PRETRAIN_SASREC
from fedmem.runs import reporter
from fedmem.runs.folder import RunFolder
from tests.helpers.in_process_grid import run_in_process
from tests.helpers.interruptions import timeless

MakeSettings = Callable[..., Settings]


def lines_of(settings: Settings) -> list[dict[str, Any]]:
    text = (Path(settings.output_dir) / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_it_differs_from_stage_1_by_name_alone() -> None:
    assert replace(CENTRALISED, name=PRETRAIN_SASREC.name) == PRETRAIN_SASREC


def test_it_writes_what_a_run_writes_and_its_checkpoint_passes_for_no_stage(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings("centralised.epochs=8", "centralised.batch=10")
    own, (result,) = train_centrally(settings)
    folder = Path(settings.output_dir)
    written = json.loads((folder / "results.json").read_text())
    assert list(written["settings"]["stage"]) == list(own.stage) == ["centralised"]
    assert [stage["test"] for stage in written["stages"]] == [result.test]
    lines = lines_of(settings)
    assert [line["round"] for line in lines] == list(range(1, 9))
    assert lines[-1]["loss"] < lines[0]["loss"]
    kept, users = load_outcomes(folder)["centralised"][USERS], read_users(folder)
    assert users is not None
    assert users.are_of(settings)
    assert means(kept.sums()) == pytest.approx(result.test)
    checkpoint = Checkpoint.load(tmp_path / "checkpoints" / "centralised.safetensors")
    assert (checkpoint.stage, checkpoint.round) == ("centralised", result.best_round)
    assert checkpoint.metrics == result.validation


def test_the_best_epoch_is_kept_and_patience_ends_it(make_settings: MakeSettings) -> None:
    settings = make_settings(
        "centralised.epochs=60", "centralised.learning_rate=0.3", "strategy.patience=3"
    )
    _, (result,) = train_centrally(settings)
    scores = [line["validation"]["sampled/HR@10"] for line in lines_of(settings)]
    assert result.rounds == result.best_round + 3 < 60
    assert scores[result.best_round - 1] == max(scores) == result.validation["sampled/HR@10"]


def test_every_target_is_trained_on_once_an_epoch(make_settings: MakeSettings) -> None:
    settings = make_settings("centralised.epochs=1", "centralised.batch=7", "model.max_length=4")
    train_centrally(settings)
    lines = (Path(settings.data.dir) / "ratings.dat").read_text().splitlines()
    assert lines_of(settings)[0]["targets"] == len(lines) - 3 * 24  # the first, and the held-out


@pytest.mark.parametrize("mistake", ["data.path=gone.dat", "federation.num_clients=25"])
def test_a_mistake_leaves_no_run_behind(mistake: str, make_settings: MakeSettings) -> None:
    settings = make_settings(mistake)
    with pytest.raises(FedmemError):
        train_centrally(settings)
    assert not Path(settings.output_dir).exists()


@pytest.mark.parametrize("epoch", [1, 4, 6])
def test_stopped_after_any_epoch_it_goes_on_to_the_same_bits(
    epoch: int, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(
        "centralised.epochs=6", "federation.evaluate_every=2", "simulation.device=cpu"
    )

    def outcome() -> tuple[str, list[dict[str, Any]]]:
        path = Path(settings.checkpoint.dir) / "centralised.safetensors"
        return Checkpoint.load(path).hash, [timeless(line) for line in lines_of(settings)]

    train_centrally(settings)
    expected = outcome()
    end_rounds = RunFolder.end_rounds

    def interrupting(folder: RunFolder, records: list[dict[str, Any]], *rest: Any) -> None:
        end_rounds(folder, records, *rest)
        if records[-1]["round"] == epoch:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "end_rounds", interrupting)
        patched.setattr(reporter, "WRITING_SHARE", math.inf)
        with pytest.raises(KeyboardInterrupt, match=r"python -m fedmem\.centralised run\.resume="):
            train_centrally(settings)
    going_on = replace(settings, run=RunSettings(settings.output_dir))
    train_centrally(going_on)
    assert outcome() == expected
    monkeypatch.setattr(CentralTraining, "__init__", None)
    train_centrally(going_on)  # done: nothing is trained again


def test_it_does_not_go_on_with_a_run_of_a_federation(make_settings: MakeSettings) -> None:
    settings = make_settings("stage=pretrain_sasrec")
    run_in_process(settings)
    with pytest.raises(FedmemError, match=r"holds a run of fedmem\.simulate"):
        train_centrally(replace(settings, run=RunSettings(settings.output_dir)))
    assert len(lines_of(settings)) == 2


def test_a_loss_that_is_no_number_ends_it(make_settings: MakeSettings) -> None:
    settings = make_settings("centralised.learning_rate=1e30")
    with pytest.raises(FedmemError, match=r"the loss is nan\. Lower centralised\.learning_rate"):
        train_centrally(settings)
