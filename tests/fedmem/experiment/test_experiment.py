"""Experiments: what is planned from their arms, and what is run of it."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.outcomes import load_outcomes
from fedmem.experiment import __main__ as command
from fedmem.experiment.__main__ import LOG, main, run_experiment
from fedmem.experiment.arms import Condition, Experiment, PlannedRun, load_experiment, override
from fedmem.runs.configuration import compose_settings
from fedmem.runs.folder import RunFolder
from tests.conftest import SMALL

CONF = Path(__file__).parents[3] / "conf" / "experiment"


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_an_experiment_plans_runs_that_differ_and_follow_their_parents(name: str) -> None:
    experiment = load_experiment(name)
    runs = experiment.plan(Path("out"), experiment.seeds)
    assert len(runs) == len(experiment.arms) * len(experiment.seeds)
    seen: set[PlannedRun] = set()
    for run in runs:
        assert seen.issuperset(run.parents)
        assert {parent.seed for parent in run.parents} <= {run.seed}
        seen.add(run)
    assert len({run.settings.to_json() for run in runs}) == len(runs)


def test_an_arm_starts_from_the_checkpoints_of_its_parents() -> None:
    runs = load_experiment("ml-100k").plan(Path("out"), [7], ["without_memory"])
    assert [run.arm for run in runs] == ["stage1", "full", "without_memory"]
    words = runs[-1].command()
    assert "seed=7" in words
    assert "ablation.memory=false" in words
    for parent, stage in (("stage1", "pretrain_sasrec"), ("full", "align_projectors")):
        path = f"out/{parent}/seed-7/checkpoints/{stage}.safetensors"
        assert f"checkpoint.{stage}={path}" in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "experiment=nonsense is unknown: choose one of ml-100k"),
        (["ml-100k", "--arms", "ful"], "no arm 'ful'"),
        (["ml-100k", "federation.round=3"], "federation.round is no setting"),
        (["ml-100k", "--seeds", "one"], "--seeds=one"),
        (["ml-100k", "--parallel", "0"], "--parallel=0 is out of range"),
    ],
)
def test_a_mistake_is_told_in_two_lines(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--dry-run"])
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert words in errors
    assert len(errors.splitlines()) <= 2


class Pretence:
    """Processes that write a run's results at once, or fail; `order` tells when they were begun."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.fail: set[str] = set()
        self.stopped: str | None = None

    def __call__(self, run: PlannedRun, parallel: int) -> subprocess.Popen[bytes]:
        assert all(parent.condition() is Condition.DONE for parent in run.parents)
        self.order.append(run.title)
        (run.folder / LOG).write_text("fedmem: no\n")
        if run.arm in self.fail:
            return subprocess.Popen([sys.executable, "-c", "raise SystemExit(2)"])
        settings = replace(run.settings, output_dir="elsewhere")
        text = json.dumps({"settings": asdict(settings), "stages": [{"stopped": self.stopped}]})
        write = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
        path = str(run.folder / "results.json")
        return subprocess.Popen([sys.executable, "-c", write, path, text])


@pytest.fixture
def pretence(monkeypatch: pytest.MonkeyPatch) -> Pretence:
    pretence = Pretence()
    monkeypatch.setattr(command, "_start", pretence)
    return pretence


def carry_out(experiment: Experiment, folder: Path, *arms: str, parallel: int = 1) -> list[str]:
    runs = experiment.plan(folder, [0, 1], arms)
    console = Console(file=io.StringIO())
    return [run.title for run in run_experiment(experiment, runs, parallel, console)]


@pytest.mark.parametrize("parallel", [1, 3])
def test_what_is_missing_is_run_and_nothing_twice(
    parallel: int, pretence: Pretence, tmp_path: Path
) -> None:
    experiment = load_experiment("ml-100k")
    assert carry_out(experiment, tmp_path, "longer", parallel=parallel) == []
    assert sorted(pretence.order) == sorted(
        f"{arm}, seed {seed}" for seed in (0, 1) for arm in ("stage1", "longer")
    )
    pretence.order.clear()
    assert carry_out(experiment, tmp_path, "longer", "full", parallel=parallel) == []
    assert pretence.order == ["full, seed 0", "full, seed 1"]


def test_what_starts_from_a_run_that_failed_is_left_out_and_the_rest_goes_on(
    pretence: Pretence, tmp_path: Path
) -> None:
    experiment, pretence.fail = load_experiment("ml-100k"), {"full"}
    failed = carry_out(experiment, tmp_path, "without_memory", "longer")
    assert set(failed) == {f"{a}, seed {s}" for s in (0, 1) for a in ("full", "without_memory")}
    assert "longer, seed 1" in pretence.order
    assert not any("without_memory" in title for title in pretence.order)


def test_a_folder_of_other_settings_is_never_taken_for_this_run_nor_overwritten(
    pretence: Pretence, tmp_path: Path
) -> None:
    carry_out(load_experiment("ml-100k"), tmp_path, "stage1")
    other = load_experiment("ml-100k", ["federation.fraction=0.5"])
    with pytest.raises(FedmemError, match=r"federation\.fraction=0\.2 \(asked for: 0\.5\)"):
        carry_out(other, tmp_path, "stage1")
    faster = load_experiment("ml-100k", ["simulation.workers=1", "client.micro_batch=5"])
    assert carry_out(faster, tmp_path, "stage1") == []
    assert len(pretence.order) == 2  # of the first call


def test_a_folder_of_other_stages_is_never_taken_for_this_run(tmp_path: Path) -> None:
    run = planned(tmp_path)
    other = replace(run.settings, stage=compose_settings(["stage=finetune_moe"]).stage)
    written(run, asdict(other))
    with pytest.raises(FedmemError, match=r"stage=\['finetune_moe'\] \(asked for: \['pretrain_"):
        run.condition()


def test_a_run_of_an_earlier_version_is_done_where_it_listed_the_same_stages(
    tmp_path: Path,
) -> None:
    run = planned(tmp_path)
    values = asdict(run.settings)
    del values["stage"], values["strategy"]["min_nodes"]
    written(run, {**values, "stages": ["pretrain_sasrec"]})
    assert run.condition() is Condition.DONE
    written(run, {**values, "stages": ["continue_sasrec"]})
    with pytest.raises(FedmemError, match="continue_sasrec"):
        run.condition()


def written(run: PlannedRun, settings: dict[str, Any]) -> None:
    """The results of a run that was done with these settings."""
    run.folder.mkdir(parents=True, exist_ok=True)
    content = {"settings": settings, "stages": [{"stopped": None}]}
    (run.folder / "results.json").write_text(json.dumps(content))


def planned(tmp_path: Path, *overrides: str) -> PlannedRun:
    (run,) = load_experiment("ml-100k", overrides).plan(tmp_path, [0], ["stage1"])
    return run


def begun(run: PlannedRun) -> RunFolder:
    settings = replace(run.settings, output_dir=str(run.folder))
    return RunFolder.start(settings, run.overrides, simulated_nodes=1)


def test_a_run_that_broke_off_goes_on_where_it_has_a_state(tmp_path: Path) -> None:
    run = planned(tmp_path)
    assert run.condition() is Condition.MISSING
    run.make_ready()
    (run.folder / "metrics.jsonl").write_text("half a li")
    run.make_ready()
    assert list(run.folder.iterdir()) == []
    with begun(run) as folder:
        assert run.condition() is Condition.BROKEN_OFF
        run.make_ready()
        assert run.command()[-1] == f"run.resume={run.folder}"
        folder.give_up()  # as a run does that has nothing to be kept
    assert run.condition() is Condition.MISSING


def test_a_run_that_broke_off_does_not_go_on_with_other_settings(tmp_path: Path) -> None:
    begun(planned(tmp_path)).close()
    assert planned(tmp_path, "simulation.workers=1").condition() is Condition.BROKEN_OFF
    with pytest.raises(
        FedmemError, match=r"other settings: federation\.fraction=0\.2 \(asked for: 0\.3\)"
    ):
        planned(tmp_path, "federation.fraction=0.3").condition()


def test_a_stage_that_went_wrong_is_not_run_again_and_nothing_starts_from_it(
    pretence: Pretence, tmp_path: Path
) -> None:
    pretence.stopped = "the loss is nan"
    assert carry_out(load_experiment("ml-100k"), tmp_path, "stage1") == [
        "stage1, seed 0",
        "stage1, seed 1",
    ]
    pretence.order.clear()
    assert len(carry_out(load_experiment("ml-100k"), tmp_path, "longer")) == 4
    assert pretence.order == []


@pytest.mark.usefixtures("pretence")
def test_settings_that_came_up_after_a_run_do_not_make_it_another(tmp_path: Path) -> None:
    carry_out(load_experiment("ml-100k"), tmp_path, "stage1")
    path = tmp_path / "stage1" / "seed-0" / "results.json"
    written = json.loads(path.read_text())
    del written["settings"]["ablation"]["memory"]
    path.write_text(json.dumps(written))
    assert planned(tmp_path).condition() is Condition.DONE
    del written["settings"]
    path.write_text(json.dumps(written))
    with pytest.raises(FedmemError, match=r"results\.json is damaged"):
        planned(tmp_path).condition()


def test_ctrl_c_ends_the_runs_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    command._end_runs_with_us()
    running: list[subprocess.Popen[bytes]] = []

    def start(*_: object) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", "import time; time.sleep(600)"]
        running.append(subprocess.Popen(words, stderr=subprocess.DEVNULL))
        return running[-1]

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_start", start)
    monkeypatch.setattr(command.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        carry_out(load_experiment("ml-100k"), tmp_path, "stage1", parallel=2)
    for each, handler in zip((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), before, strict=True):
        signal.signal(each, handler)
    assert len(running) == 2
    assert all(process.returncode for process in running)


@pytest.mark.parametrize("name", ["plain", "with space", "a,b=[c]", "it's", "back\\'slash"])
def test_a_path_is_given_to_hydra_as_it_is(name: str, tmp_path: Path) -> None:
    composed = compose_settings([override("checkpoint.dir", tmp_path / name)])
    assert composed.checkpoint.dir == str(tmp_path / name)


@pytest.mark.slow
def test_an_experiment_runs_for_real_and_then_has_nothing_left_to_do(
    data_dir: Path, tmp_path: Path
) -> None:
    small = [each for each in SMALL if not each.startswith("data=")]
    out = tmp_path / "out"
    words = [sys.executable, "-m", "fedmem.experiment", "ml-1m-top-1000", *small, "--out", str(out)]
    words += [f"data.dir={data_dir}", "data.path=ratings.dat", "--seeds", "0"]
    words += ["centralised.epochs=2", "--parallel", "2"]
    first = subprocess.run(words, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    for arm, stages in {
        "stage1": ["pretrain_sasrec"],
        "longer": ["continue_sasrec"],
        "full": ["align_projectors", "finetune_moe"],
        "centralised": ["centralised"],
    }.items():
        assert list(load_outcomes(out / arm / "seed-0")) == stages
    second = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "4 of 4 runs are done" in second.stdout
