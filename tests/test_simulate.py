"""The real command, on the tiny data: what it writes, prints, refuses and leaves running."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.data.identity import identity
from fedmem.core.errors import FedmemError
from fedmem.core.machine import cluster
from fedmem.core.machine.placement import this_machine
from fedmem.core.settings import RunSettings, Settings
from fedmem.core.stages import STAGES
from fedmem.doctor.case import Case
from fedmem.doctor.checks import preflight
from fedmem.report.runs import find_runs, read_run
from fedmem.report.study import Study
from fedmem.runs.folder import RunFolder
from fedmem.simulate import main
from fedmem.simulate import simulate as run_simulation
from tests.helpers.commands import COMMAND, interrupt_when_under_way, interrupted
from tests.helpers.shared_runs import TrainOnce, WholeRun
from tests.helpers.small_world import SMALL

MakeSettings = Callable[..., Settings]
SECOND = "stage=align_projectors"
CORES = this_machine().cpus


def simulate(*overrides: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *SMALL, f"hydra.run.dir={folder / 'out'}", *overrides],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_three_stages_on_workers_give_the_numbers_of_the_in_process_federation(
    whole_run: WholeRun, data_dir: Path, tmp_path: Path
) -> None:
    checkpoints = tmp_path / "workers"
    done = simulate(f"data.dir={data_dir}", f"checkpoint.dir={checkpoints}", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for stage, expected in whole_run.checkpoints.items():
        made = Checkpoint.load(checkpoints / f"{stage}.safetensors")
        for name, value in expected.parameters.items():
            torch.testing.assert_close(made.parameters[name], value, rtol=0, atol=1e-5)
        assert f"{stage} round 2/2  loss " in done.stdout  # plain lines: no terminal here
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [r["stage"] for r in results["stages"]] == list(STAGES)
    for result in results["stages"]:
        assert f"{result['test']['sampled/HR@10']:.4f}" in done.stdout
        assert f"{result['test']['full/NDCG@10']:.4f}" in done.stdout
    rounds = [json.loads(x) for x in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [(r["stage"], r["round"]) for r in rounds] == [
        (stage, r) for stage in STAGES for r in range(0 if STAGES[stage].requires else 1, 3)
    ]
    assert not (tmp_path / "out" / "frozen").exists()
    assert done.stdout.count(f"{data_dir / 'ratings.dat'}: ratings (user, item") == 1
    assert pq.read_table(tmp_path / "out" / "items.parquet").num_rows == 40
    assert pq.read_table(tmp_path / "out" / "users.parquet")["id"].to_pylist() == list(range(1, 25))


def test_a_run_does_not_go_on_with_other_histories(
    make_settings: MakeSettings, data_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(data_dir, tmp_path / "other")
    with (tmp_path / "other" / "ratings.dat").open("a") as file:
        file.write("24 1 1 99\n")
    begun = replace(make_settings(), output_dir=str(tmp_path / "begun"))
    other = identity(make_settings(f"data.dir={tmp_path / 'other'}"))
    RunFolder.start(begun, simulated_nodes=2, data=other).close()
    asked = replace(begun, output_dir=str(tmp_path / "new"), run=RunSettings(begun.output_dir))
    with pytest.raises(FedmemError, match="are not those that the run was begun with"):
        run_simulation(asked)


def test_a_mistake_ends_the_command_with_code_2_and_two_lines(
    data_dir: Path, tmp_path: Path
) -> None:
    own = [f"data.dir={data_dir}", f"checkpoint.dir={tmp_path / 'none'}"]
    done = simulate(*own, "stage=align_projectors", folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) <= 2
    assert "pretrain_sasrec.safetensors" in done.stderr
    assert "stage=pretrain_sasrec" in done.stderr


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["stage=nonsense"], ["stage=nonsense", "align_projectors"]),
        (["data=nonsense"], ["data=nonsense", "ml-100k"]),
        (["data.dir=nowhere"], ["nowhere/ratings.dat", "data.dir"]),
        (["federation.fracton=1"], ["federation.fracton"]),
        (["federation.nodes=many"], ["federation.nodes=many", "auto"]),
        (["federation.nodes=25"], ["federation.nodes=25", "24 users"]),
        (["simulation.device=cuda"], ["simulation.device=cuda", "auto"]),
        (["simulation.ray_address=127.0.0.1:1"], ["simulation.ray_address", "ray start"]),
    ],
)
def test_so_does_any_other_mistake(
    overrides: list[str],
    words: list[str],
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In this process: to start another takes longer than the mistake."""
    if "simulation.device=cuda" in overrides and torch.cuda.is_available():
        pytest.skip("here it is no mistake")
    given = [f"data.dir={data_dir}", f"hydra.run.dir={tmp_path / 'out'}", *overrides]
    monkeypatch.setattr(sys, "argv", ["fedmem.simulate", *SMALL, *given])
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 0.01)  # test_cluster waits for the real answer
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # to be as it was after the command has set it
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed, said = capfd.readouterr()
    assert printed == ""
    assert len(said.strip().splitlines()) <= 2
    assert all(word in said for word in words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.visual_file=none.pt"], r"data\.visual_file: looked for .*none\.pt"),
        (["federation.nodes=25"], "only 24 users take part"),
        (["federation.num_clients=25"], "the data have 24 users"),
        (["stage=finetune_moe"], "starts from a checkpoint of pretrain_sasrec"),
    ],
)
def test_what_does_not_fit_is_found_before_anything_starts(
    overrides: list[str], message: str, make_settings: MakeSettings
) -> None:
    with pytest.raises(FedmemError, match=message):
        preflight(Case(make_settings(*overrides)))


def test_stages_2_and_3_together_need_the_checkpoint_of_stage_1_alone(
    make_settings: MakeSettings, train_once: TrainOnce
) -> None:
    later = "stage=[align_projectors,finetune_moe]"
    with pytest.raises(FedmemError, match="align_projectors starts from a checkpoint of pretrain"):
        preflight(Case(make_settings(later)))
    train_once(make_settings("stage=pretrain_sasrec"))
    preflight(Case(make_settings(later)))


def test_checkpoints_of_other_data_or_size_are_found_before_anything_starts(
    make_settings: MakeSettings, data_dir: Path, train_once: TrainOnce
) -> None:
    train_once(make_settings("stage=pretrain_sasrec"))
    preflight(Case(make_settings(SECOND)))
    with pytest.raises(FedmemError, match=r"model\.blocks=2 \(here 3\)"):
        preflight(Case(make_settings(SECOND, "model.blocks=3")))
    lines = (data_dir / "ratings.dat").read_text().replace(" 40 ", " 39 ")
    (data_dir / "other.dat").write_text(lines)
    with pytest.raises(FedmemError, match="trained on other data"):
        preflight(Case(make_settings(SECOND, "data.path=other.dat")))


SWEEP = ["-m", "stage=pretrain_sasrec", "federation.num_clients=12,24"]


@pytest.mark.slow
def test_a_sweep_leaves_runs_in_folders_of_their_own_that_a_report_compares(
    data_dir: Path, tmp_path: Path
) -> None:
    sweep = [f"data.dir={data_dir}", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    done = simulate(*SWEEP, *sweep, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    runs = [read_run(folder) for folder in find_runs([str(tmp_path / "sweep")])]
    assert [run.users for run in runs] == [12, 24]
    for run in runs:
        assert (run.folder / "checkpoints" / "pretrain_sasrec.safetensors").is_file()
    (contrast,) = Study.of(runs).contrasts
    assert contrast.differences[0].users == 12  # those that both have


@pytest.mark.slow
def test_runs_of_a_sweep_side_by_side_share_the_cores_and_give_the_same(
    data_dir: Path, tmp_path: Path
) -> None:
    found = []
    for name, launcher in {
        "in_turns": ["simulation.workers=1", "simulation.threads=1"],
        "side_by_side": ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={2 * CORES}"],
    }.items():
        place = [f"data.dir={data_dir}", f"hydra.sweep.dir={tmp_path / name}"]
        done = simulate(*SWEEP, "seed=0,1", *launcher, *place, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("on 1 workers of 1 threads") == 4
        found.append([read_run(folder) for folder in find_runs([str(tmp_path / name)])])
    everything = [(12, 0), (12, 1), (24, 0), (24, 1)]
    assert [[(run.users, run.seed) for run in runs] for runs in found] == [everything] * 2
    for one, other in zip(*found, strict=True):
        assert one.results[0]["test"] == other.results[0]["test"]


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_side_by_side_and_leaves_nothing_running(
    data_dir: Path, tmp_path: Path
) -> None:
    sweep = tmp_path / "sweep"
    words = [*COMMAND, *SMALL, *SWEEP, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    words += [f"data.dir={data_dir}", f"hydra.sweep.dir={sweep}", "federation.rounds=100000"]
    running = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    errors = interrupted(running, lambda: list(sweep.glob("*/metrics.jsonl")))
    assert "fedmem: interrupted." in errors
    for folder in sweep.glob("[01]"):
        assert read_run(folder).standing is not None


@pytest.mark.parametrize(
    "how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_ends_it_cleanly_and_leaves_nothing_running(
    how: signal.Signals, data_dir: Path, tmp_path: Path
) -> None:
    interrupt_when_under_way(f"data.dir={data_dir}", folder=tmp_path, how=how)


def test_workers_that_do_not_start_are_described_and_leave_no_thread_waiting(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmem.simulate.NODE", "fedmem.nothing:answer")
    before = set(threading.enumerate())
    with pytest.raises(FedmemError, match=r"No module named 'fedmem.nothing'\.\n.*\n.*resume="):
        run_simulation(make_settings("stage=pretrain_sasrec"))
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=30)
        assert not thread.is_alive(), thread


def test_users_elsewhere_are_for_real_nodes(make_settings: MakeSettings) -> None:
    with pytest.raises(FedmemError, match=r"data\.first_index is for real nodes"):
        run_simulation(make_settings("data.first_index=3"))
