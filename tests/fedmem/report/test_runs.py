"""Folders are read as what they are: runs, sweeps, unfinished runs, or none of these."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.report.runs import find_runs, read_run
from fedmem.report.study import Study
from fedmem.runs.folder import RunFolder
from fedmem.runs.provenance import made_with
from tests.helpers.in_process_grid import run_in_process
from tests.helpers.recorded_runs import MakeRun, result
from tests.helpers.shared_runs import WholeRun

MakeSettings = Callable[..., Settings]


def begun(settings: Settings, folder: Path) -> Path:
    RunFolder.start(replace(settings, output_dir=str(folder))).close()
    return folder


def test_runs_are_found_in_folders_below_and_by_patterns_each_once(
    settings: Settings, tmp_path: Path
) -> None:
    runs = [begun(settings, tmp_path / "sweep" / str(job)) for job in (0, 2, 10)]
    (tmp_path / "sweep" / "empty").mkdir()
    assert find_runs([str(tmp_path / "sweep")]) == runs
    assert find_runs([str(runs[2]), str(tmp_path / "sweep" / "[02]")]) == [runs[2], *runs[:2]]
    assert find_runs([str(runs[0]), f"{runs[0]}/"]) == runs[:1]


@pytest.mark.parametrize(("place", "says"), [("nowhere", "no folder"), ("empty", "holds no run")])
def test_a_folder_that_is_not_there_or_holds_no_run_is_a_mistake(
    place: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FedmemError, match=says):
        find_runs([str(tmp_path / place)])


def test_a_finished_run_is_read_with_all_that_it_left(
    make_settings: MakeSettings,
) -> None:
    settings = make_settings("federation.num_clients=20")
    results, watcher, _ = run_in_process(settings)
    run = read_run(Path(settings.output_dir))
    assert run.standing is None
    assert run.stages() == list(settings.stage)
    assert [r["test"] for r in run.results] == [result.test for result in results]
    assert [r["loss"] for r in run.rounds] == [record.loss for record in watcher.records]
    assert run.users == 20
    assert set(run.hashes) == set(settings.stage)
    assert run.novelty is not None
    assert run.novelty["threshold"] == results[-1].threshold
    assert sum(run.novelty["counts"]) > 0
    assert run.made_with == made_with(settings.simulation.device)


@pytest.mark.parametrize("kept", [None, {"fedmem": "0.0.1"}, "by hand"])
def test_runs_of_versions_that_told_otherwise_what_they_were_made_with_are_read(
    kept: object, whole_run: WholeRun, tmp_path: Path
) -> None:
    path = tmp_path / "copy" / "results.json"
    shutil.copytree(whole_run.settings.output_dir, path.parent)
    content = json.loads(path.read_text())
    content |= {"made_with": kept}
    path.write_text(json.dumps(content))
    assert read_run(path.parent).made_with is None
    del content["made_with"]
    path.write_text(json.dumps(content))
    run = read_run(path.parent)
    assert run.made_with is None
    assert Study.of([run]).made_with == []


def test_an_unfinished_run_says_where_it_stands(settings: Settings, tmp_path: Path) -> None:
    run = read_run(begun(settings, tmp_path / "run"))
    assert run.standing == "stands before its first round"
    assert run.results == run.rounds == []
    with (tmp_path / "run" / "metrics.jsonl").open("w") as file:
        file.write(json.dumps({"stage": "a", "round": 1}) + "\n" + '{"stage": "a", "rou')
    assert [record["round"] for record in read_run(tmp_path / "run").rounds] == [1]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"settings": {}, "stages": []}'])
def test_a_damaged_result_is_a_mistake(content: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(FedmemError, match=r"results\.json"):
        read_run(tmp_path)


def test_what_a_stage_moved_is_all_of_its_messages(make_run: MakeRun) -> None:
    name = "pretrain_sasrec"
    earlier = make_run("seed=0")  # recorded neither validations nor the test
    assert earlier.moved_in(name) == 4 * 3_000_000
    validated = [{**record, "evaluation_bytes": 500_000} for record in earlier.rounds]
    run = make_run("seed=0", rounds=validated, results=[result(name, 0.5, test_bytes=250_000)])
    assert run.moved_in(name) == 4 * 3_500_000 + 250_000
