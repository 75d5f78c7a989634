"""What an experiment lacks is run: each once, after its parents, some at a time."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from rich.console import Console

from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.outcomes import load_outcomes
from fedmem.experiment import running
from fedmem.experiment.arms import Condition, Experiment, PlannedRun, load_experiment
from fedmem.experiment.running import LOG, run_experiment
from fedmem.runs.folder import RESULTS
from tests.helpers.small_world import SMALL


class Pretence:
    """Processes that write a run's results at once, or fail; `order` tells when they were begun."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.fail: set[str] = set()
        self.stopped: str | None = None

    def __call__(self, run: PlannedRun, parallel: int, place: int) -> subprocess.Popen[bytes]:
        assert all(parent.condition() is Condition.DONE for parent in run.parents)
        assert 0 <= place < parallel
        self.order.append(run.title)
        (run.folder / LOG).write_text("fedmem: no\n")
        if run.arm in self.fail:
            return subprocess.Popen([sys.executable, "-c", "raise SystemExit(2)"])
        settings = replace(run.settings, output_dir="elsewhere")
        text = json.dumps({"settings": asdict(settings), "stages": [{"stopped": self.stopped}]})
        write = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
        path = str(run.folder / RESULTS)
        return subprocess.Popen([sys.executable, "-c", write, path, text])


@pytest.fixture
def pretence(monkeypatch: pytest.MonkeyPatch) -> Pretence:
    pretence = Pretence()
    monkeypatch.setattr(running, "_start", pretence)
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


def test_ctrl_c_ends_the_runs_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(*_: object) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", "import time; time.sleep(600)"]
        started.append(subprocess.Popen(words, stderr=subprocess.DEVNULL))
        return started[-1]

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "_start", start)
    monkeypatch.setattr(running.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        carry_out(load_experiment("ml-100k"), tmp_path, "stage1", parallel=2)
    assert len(started) == 2
    assert all(process.returncode for process in started)


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
