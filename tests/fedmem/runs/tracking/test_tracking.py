"""TensorBoard and MLflow are told every round once, also of a run that was stopped and went on."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedmem.centralised import train_centrally
from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.federation.server_app import Run
from fedmem.runs import tracking
from fedmem.runs.folder import EVENTS, MLFLOW_RUN, RunFolder
from fedmem.runs.records import RoundRecord
from fedmem.runs.resume import absolute, own_settings
from fedmem.runs.tracking import COUNTS, figures_of, trackers
from fedmem.runs.tracking.mlflow import MLflow, MlflowClient
from fedmem.runs.tracking.tensorboard import SummaryWriter, TensorBoard
from tests.helpers.in_process_grid import InProcessGrid
from tests.helpers.interruptions import failing_at, forget

MakeSettings = Callable[..., Settings]
Points = dict[tuple[str, str], list[tuple[int, float]]]
"""Steps and values by stage and figure."""
MEMORY = {
    "st_size": 30.0,
    "lt_size": 5.0,
    "st_capacity": 40.0,
    "lt_capacity": 50.0,
    "ingested": 60.0,
    "promotions": 6.0,
    "merges": 9.0,
    "evictions": 1.0,
    "surprises": 0.0,
}


class Kind(NamedTuple):
    """A tracker, and how what it was told is read back."""

    asked: tuple[str, ...]
    tracker: type[TensorBoard] | type[MLflow]
    read: Callable[[Path], Points]


def events(run: Path) -> Points:
    found: Points = {}
    for folder in (run / EVENTS).iterdir():
        read = EventAccumulator(str(folder))
        read.Reload()
        for name in read.Tags()["scalars"]:
            found[folder.name, name] = [(each.step, each.value) for each in read.Scalars(name)]
    return found


def metrics(run: Path) -> Points:
    client = MlflowClient()
    found: Points = {}
    own = (run / MLFLOW_RUN).read_text().strip()
    for key in client.get_run(own).data.metrics:
        stage, _, name = key.replace("_at_", "@").partition("/")
        history = client.get_metric_history(own, key)
        found[stage, name] = sorted((each.step, each.value) for each in history)
    return found


TENSORBOARD = Kind((), TensorBoard, events)
MLFLOW = Kind(("tracking.tensorboard=false", "tracking.mlflow=true"), MLflow, metrics)
KINDS = [pytest.param(TENSORBOARD, id="tensorboard"), pytest.param(MLFLOW, id="mlflow")]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests, since to make its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'store.db'}"


@pytest.fixture(autouse=True)
def in_store(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.chdir(tmp_path)


def work(folder: RunFolder, *overrides: str) -> None:
    """Run what is left of a run, with its trackers."""
    forget()
    with folder:
        settings = own_settings(folder.state, overrides)
        with trackers(settings, folder) as told:
            Run(settings, told, folder=folder)(InProcessGrid(settings.federation.nodes))


def expected(run: Path) -> Points:
    """What the run's own files tell."""
    found: Points = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = RoundRecord(**json.loads(line))
        for name, value in figures_of(record).items():
            found.setdefault((record.stage, name), []).append((record.round, value))
    for result in json.loads((run / "results.json").read_text())["stages"]:
        for name, value in result["test"].items():
            found[result["stage"], f"test/{name}"] = [(result["best_round"], value)]
    return found


def require_same(found: Points, wanted: Points) -> None:
    assert found.keys() == wanted.keys()
    for key, points in wanted.items():
        assert [step for step, _ in found[key]] == [step for step, _ in points], key
        values = [value for _, value in points]
        assert [value for _, value in found[key]] == pytest.approx(values, rel=1e-6), key


def test_figures_of_a_round_by_hand() -> None:
    validation = {"sampled/HR@10": 0.5}
    record = RoundRecord(
        "a", 2, loss=1.5, users=3, seconds=0.5, validation=validation, memory=MEMORY
    )
    assert figures_of(record) == {
        "seconds": 0.5,
        "users": 3,
        "left_out": 0,
        "bytes_down": 0,
        "bytes_up": 0,
        "loss": 1.5,
        "validation/sampled/HR@10": 0.5,
        "memory/st_full": 0.75,
        "memory/lt_full": 0.1,
        "memory/write_ratio": 0.25,
    }
    assert list(figures_of(RoundRecord("a", 0))) == list(COUNTS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_of_a_run_is_read_back(kind: Kind, make_settings: MakeSettings) -> None:
    settings = make_settings(*kind.asked)
    work(RunFolder.start(absolute(settings)))
    run = Path(settings.output_dir)
    found = kind.read(run)
    require_same(found, expected(run))
    assert [step for step, _ in found["pretrain_sasrec", "loss"]] == [1, 2]
    assert [step for step, _ in found["finetune_moe", "memory/write_ratio"]] == [0, 1, 2]
    assert ("align_projectors", "test/full/NDCG@10") in found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "message", [13, *(pytest.param(other, marks=pytest.mark.slow) for other in (6, 30))]
)
def test_a_run_that_went_on_is_told_once_and_whole(
    message: int, kind: Kind, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped within the first round, between stages and in the last; and once by its tracker."""
    settings = make_settings(*kind.asked)
    run = Path(settings.output_dir)

    def unheard(*_: Any) -> None:
        raise FedmemError("not told")

    monkeypatch.setattr(InProcessGrid, "push_messages", failing_at(message))
    with pytest.raises(FedmemError, match="out of order"):
        work(RunFolder.start(absolute(settings)))
    with monkeypatch.context() as patched:
        patched.setattr(kind.tracker, "on_round", unheard)
        with pytest.raises(FedmemError, match="not told"):
            work(RunFolder.go_on(run))
    work(RunFolder.go_on(run))
    require_same(kind.read(run), expected(run))


@pytest.mark.parametrize("kind", KINDS)
def test_a_tracker_that_is_asked_for_late_is_told_what_was_before(
    kind: Kind, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings("tracking.tensorboard=false", "stage=pretrain_sasrec")
    run = Path(settings.output_dir)
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "end_stage", lambda *_: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            work(RunFolder.start(absolute(settings)))
    assert not (run / EVENTS).exists()
    work(RunFolder.go_on(run), *(kind.asked or ["tracking.tensorboard=true"]))
    require_same(kind.read(run), expected(run))


def test_events_of_rounds_before_are_dated_back(tmp_path: Path) -> None:
    before = time.time()
    with TensorBoard(tmp_path, behind=90.0) as told:
        for number, seconds in ((1, 30.0), (2, 60.0), (3, 5.0)):
            told.on_round(RoundRecord("a", number, loss=1.0, seconds=seconds))
    read = EventAccumulator(str(tmp_path / EVENTS / "a"))
    read.Reload()
    ages = [before - each.wall_time for each in read.Scalars("loss")]
    assert ages == pytest.approx([60.0, 0.0, 0.0], abs=20.0)


def test_a_disk_that_is_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "flush", full)
    with TensorBoard(tmp_path, behind=0.0) as told, pytest.raises(OSError, match="space") as caught:
        told.on_round(RoundRecord("a", 1))
    assert caught.value.filename == str(tmp_path / EVENTS / "a")


def test_of_a_run_that_was_there_nothing_stays(make_settings: MakeSettings) -> None:
    settings = absolute(make_settings("stage=pretrain_sasrec", "tracking.mlflow=true"))
    run = Path(settings.output_dir)
    work(RunFolder.start(settings))
    first = (run / MLFLOW_RUN).read_text()
    without = absolute(make_settings("stage=pretrain_sasrec", "tracking.tensorboard=false"))
    work(RunFolder.start(without))
    assert list((run / EVENTS).glob("*")) == []
    assert not (run / MLFLOW_RUN).exists()
    work(RunFolder.start(settings))
    assert (run / MLFLOW_RUN).read_text() != first


def test_mlflow_knows_settings_and_how_the_run_ended(make_settings: MakeSettings) -> None:
    settings = absolute(make_settings("stage=pretrain_sasrec", "tracking.mlflow=true", "seed=5"))
    client = MlflowClient()
    with RunFolder.start(settings) as folder, trackers(settings, folder):
        own = (folder.path / MLFLOW_RUN).read_text().strip()
        assert client.get_run(own).info.status == "RUNNING"
    assert client.get_run(own).info.status == "KILLED"
    work(RunFolder.go_on(Path(settings.output_dir)))
    ended = client.get_run(own)
    assert ended.info.status == "FINISHED"
    assert ended.data.params["seed"] == "5"
    assert ended.data.params["memory.threshold"] == "auto"
    assert client.get_experiment(ended.info.experiment_id).name == settings.data.name


def test_in_a_store_that_does_not_know_the_run_it_begins_again(
    make_settings: MakeSettings,
) -> None:
    settings = absolute(make_settings("stage=pretrain_sasrec", "tracking.mlflow=true"))
    run = Path(settings.output_dir)
    folder = RunFolder.start(settings)
    (run / MLFLOW_RUN).write_text("0" * 32 + "\n")
    work(folder)
    require_same(metrics(run), expected(run))


def test_a_store_that_cannot_be_used_is_a_mistake_of_two_lines(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://somewhere")
    asked = replace(settings, tracking=replace(settings.tracking, mlflow=True))
    with RunFolder.start(absolute(asked)) as folder:
        opened = trackers(asked, folder)
        with pytest.raises(FedmemError, match="MLflow does not take this run") as caught:
            opened.__enter__()
    assert len(str(caught.value).splitlines()) == 2


def test_mlflow_that_is_missing_is_a_mistake_of_one_line_before_anything_is_written(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking.util, "find_spec", lambda _: None)
    settings = make_settings("tracking.mlflow=true")
    with pytest.raises(FedmemError, match="needs MLflow: pip install") as caught:
        train_centrally(settings)
    assert "\n" not in str(caught.value)
    assert not Path(settings.output_dir).exists()


def test_training_on_pooled_data_is_told_too(make_settings: MakeSettings) -> None:
    settings = make_settings("centralised.epochs=3")
    train_centrally(settings)
    run = Path(settings.output_dir)
    require_same(events(run), expected(run))


def test_nobody_waits_for_a_tracker_that_is_not_asked_for() -> None:
    code = "import sys, fedmem.simulate; print({'tensorboard', 'mlflow'} & sys.modules.keys())"
    called = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert called.stdout.strip() == "set()"
