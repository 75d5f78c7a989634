"""Which run goes on, and what it may not be asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedmem.core.data.cold import _load_histories
from fedmem.core.data.identity import identity
from fedmem.core.data.interactions import load
from fedmem.core.errors import FedmemError
from fedmem.core.settings import RunSettings, Settings
from fedmem.runs.configuration import compose_settings
from fedmem.runs.folder import RunFolder
from fedmem.runs.resume import AUTO, absolute, find_unfinished, go_on, how_to_go_on, own_settings
from tests.helpers.small_world import SMALL
from tests.helpers.states import stage_state

MakeSettings = Callable[..., Settings]
OWN = ["data=ml-1m", "seed=3", "federation.rounds=7"]


def begun(settings: Settings, name: str, overrides: list[str] = OWN, age: int = 0) -> Path:
    """A run that was begun under a name, seconds ago."""
    path = Path(settings.output_dir).parent / "runs" / name
    own = replace(absolute(settings), output_dir=str(path))
    RunFolder.start(own, overrides, simulated_nodes=2).close()
    (state,) = path.glob("state/*.safetensors")
    os.utime(state, (1e9 - age, 1e9 - age))
    return path


def asking(settings: Settings, resume: str) -> Settings:
    return replace(settings, run=RunSettings(resume))


def test_nothing_goes_on_where_nothing_is_asked_for(settings: Settings, tmp_path: Path) -> None:
    begun(settings, "a")
    assert go_on(settings, [], tmp_path / "runs") is None


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["run.resume=somewhere"],
        ["seed=3"],
        ["data=ml-1m", "simulation.workers=1", "simulation.device=cpu"],
        ["tracking.tensorboard=false"],
        ["federation.evaluate_every=5"],  # the default, which the run had
    ],
)
def test_what_the_run_was_asked_for_may_be_asked_for_again(
    overrides: list[str], settings: Settings, tmp_path: Path
) -> None:
    path = begun(settings, "a")
    folder = go_on(asking(settings, str(path)), overrides, tmp_path)
    assert folder is not None
    with folder:
        own = own_settings(folder.state, overrides)
    assert own.federation.nodes == 2
    workers = 1 if "simulation.workers=1" in overrides else settings.simulation.workers
    assert own.simulation.workers == workers
    assert own.tracking.tensorboard is ("tracking.tensorboard=false" not in overrides)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["seed=4"], ["seed=4 (there 3)"]),
        (["seed=0"], ["seed=0 (there 3)"]),  # the default, which the run had not
        (["stage=pretrain_sasrec"], ["stage=['pretrain_sasrec']"]),
        (["data=ml-100k"], ["data.name=ml-100k"]),
        (["strategy=momentum"], ["strategy.optimizer=momentum", "strategy.learning_rate=1.0"]),
        (["federation.rounds=8", "simulation.threads=1"], ["federation.rounds=8 (there 7)"]),
    ],
)
def test_what_it_was_not_asked_for_is_refused_by_name(
    overrides: list[str], words: list[str], settings: Settings, tmp_path: Path
) -> None:
    path = begun(settings, "a")
    with pytest.raises(FedmemError, match="was asked for otherwise") as caught:
        go_on(asking(settings, str(path)), overrides, tmp_path)
    assert all(word in str(caught.value) for word in words)
    assert len(str(caught.value).splitlines()) <= 2
    RunFolder.go_on(path).close()  # it is not locked


@pytest.mark.parametrize("damage", ["missing", "empty", "foreign"])
def test_a_folder_without_a_run_is_refused_by_its_path(
    damage: str, settings: Settings, tmp_path: Path
) -> None:
    path = begun(settings, "a") if damage == "foreign" else tmp_path / "b"
    if damage == "empty":
        path.mkdir()
    if damage == "foreign":
        (path / "state" / "last.safetensors").write_text("something else")
    with pytest.raises(FedmemError, match=str(path)):
        go_on(asking(settings, str(path)), [], tmp_path)


def test_auto_takes_the_newest_unfinished_run_of_the_same_settings(
    settings: Settings, make_settings: MakeSettings, tmp_path: Path
) -> None:
    place = tmp_path / "runs"
    assert find_unfinished(settings, place) is None
    begun(settings, "old", age=20)
    newest = begun(settings, "new", age=10)
    done = begun(settings, "done")
    with RunFolder.go_on(done) as opened:
        opened.end_run(settings)
    begun(make_settings("seed=9"), "other")
    broken = begun(settings, "broken")
    (broken / "state" / "last.safetensors").write_text("")
    assert find_unfinished(settings, place) == newest
    # how it works is no other run
    elsewhere = replace(
        settings, simulation=replace(settings.simulation, workers=1), output_dir=str(tmp_path / "x")
    )
    folder = go_on(asking(elsewhere, AUTO), OWN, place)
    assert folder is not None
    folder.close()
    assert folder.path == newest
    assert go_on(asking(make_settings("seed=8"), AUTO), OWN, place) is None


def test_auto_looks_into_sweeps(settings: Settings, tmp_path: Path) -> None:
    path = begun(settings, "sweep/3")
    assert find_unfinished(settings, tmp_path / "runs") == path


def test_auto_finds_a_job_that_keeps_its_checkpoints_to_itself(
    settings: Settings, tmp_path: Path
) -> None:
    def job(name: str) -> Settings:
        output = tmp_path / "runs" / name
        own = replace(settings.checkpoint, dir=str(output / "checkpoints"))
        return replace(settings, checkpoint=own, output_dir=str(output))

    RunFolder.start(absolute(job("sweep/3")), OWN, simulated_nodes=2).close()
    assert find_unfinished(job("later/3"), tmp_path / "runs") == tmp_path / "runs" / "sweep" / "3"
    assert find_unfinished(settings, tmp_path / "runs") is None


@pytest.fixture
def project(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder in which a run was begun, by paths that are relative to it."""
    folder = tmp_path / "project"
    shutil.copytree(data_dir, folder / "data")
    monkeypatch.chdir(folder)
    asked = [*SMALL, "data.dir=data"]
    settings = compose_settings(asked, "runs/a")
    RunFolder.start(absolute(settings), asked, 2, identity(settings)).close()
    return folder


@pytest.mark.parametrize("auto", [False, True])
def test_a_project_that_was_moved_goes_on(
    auto: bool, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "moved"
    project.rename(moved)
    monkeypatch.chdir(moved)
    asked = [*SMALL, "data.dir=data"]
    settings = compose_settings([*asked, f"run.resume={AUTO if auto else 'runs/a'}"])
    folder = go_on(settings, asked, Path("runs"))
    assert folder is not None
    with folder:
        own = own_settings(folder.state, asked)
    assert own.data.dir == str(moved / "data")
    assert own.checkpoint.dir == str(moved / "checkpoints" / "ml-1m")
    assert not project.exists()


def test_the_same_data_may_have_a_new_place_and_no_others(project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (project / "data").rename(elsewhere)

    def open_with(*overrides: str) -> Settings:
        folder = go_on(compose_settings(["run.resume=runs/a"]), overrides, Path("runs"))
        assert folder is not None
        with folder:
            return own_settings(folder.state, overrides)

    with pytest.raises(FedmemError, match=r"looked for .*/project/data/ratings\.dat"):
        open_with()
    assert open_with(f"data.dir={elsewhere}").data.dir == str(elsewhere)
    lines = (elsewhere / "ratings.dat").read_text().splitlines()
    (elsewhere / "ratings.dat").write_text("\n".join(lines[1:]) + "\n")
    load.cache_clear()
    _load_histories.cache_clear()
    with pytest.raises(FedmemError, match="are not those that the run was begun with"):
        open_with(f"data.dir={elsewhere}")


def test_a_run_whose_memories_are_gone_is_refused(settings: Settings, tmp_path: Path) -> None:
    path = begun(settings, "a")
    with RunFolder.go_on(path) as folder:
        folder.end_rounds([{"stage": "finetune_moe", "round": 0}], stage_state(0, 0))
    with pytest.raises(FedmemError, match=r"nodes/0/memory\.safetensors is gone"):
        go_on(asking(settings, str(path)), [], tmp_path)


def test_the_command_is_one_that_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = how_to_go_on(tmp_path / "runs" / "a b")
    assert line == "Go on with: python -m fedmem.simulate run.resume='runs/a b'"


def test_nodes_with_other_features_than_a_run_was_begun_with_end_it(
    settings: Settings, tmp_path: Path
) -> None:
    settings = replace(settings, output_dir=str(tmp_path / "run"))
    with RunFolder.start(settings) as folder:
        for content in ("", "features", "features", ""):
            folder.require_content(content)
    with (
        RunFolder.go_on(folder.path) as folder,
        pytest.raises(FedmemError, match="other item features than when this run was begun"),
    ):
        folder.require_content("others")
