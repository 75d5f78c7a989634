"""A run's state comes back as it was, and takes up no more than the last and the best."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmem.core.errors import FedmemError
from fedmem.core.files.sealed import load_sealed, save_sealed
from fedmem.core.settings import Settings
from fedmem.runs.folder import STATE, RunFolder, shown
from fedmem.runs.stage_progress import StageProgress
from fedmem.runs.state import LAST, RunState, peek
from tests.helpers.states import stage_state

MakeSettings = Callable[..., Settings]


def same(one: StageProgress | None, other: StageProgress | None) -> bool:
    assert one is not None
    assert other is not None
    for part in ("parameters", "optimizer", "best"):
        mine, theirs = getattr(one, part), getattr(other, part)
        if (mine is None) != (theirs is None):
            return False
        if mine is not None and (
            mine.keys() != theirs.keys()
            or not all(torch.equal(mine[name], theirs[name]) for name in mine)
        ):
            return False
    bare: dict[str, Any] = {"parameters": {}, "optimizer": {}, "best": None}
    return replace(one, **bare) == replace(other, **bare)


@pytest.mark.parametrize("changes", [{}, {"best": None, "best_validation": {}, "best_round": 0}])
def test_a_state_comes_back_as_it_was(
    changes: dict[str, Any], settings: Settings, tmp_path: Path
) -> None:
    state = RunState(
        settings, ["seed=1"], 2, stage_state(**changes), [{"stage": "x"}], {"x": "ab"}, 17
    )
    state.save(tmp_path)
    found = RunState.load(tmp_path)
    assert replace(found, stage=None) == replace(state, stage=None)
    assert same(found.stage, state.stage)


def test_the_last_and_the_best_are_all_that_is_kept(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "state"
    for server_round in range(1, 9):
        best = server_round // 3 * 3
        state = RunState(settings, [], 2, stage_state(server_round, best))
        state.save(folder)
        names = {path.name for path in folder.iterdir()}
        assert names == {LAST, f"best-finetune_moe-{best}.safetensors"}
        assert same(RunState.load(folder).stage, state.stage)
    RunState(settings, [], 2).save(folder)
    assert [path.name for path in folder.iterdir()] == [LAST]


def test_a_best_round_that_is_not_new_is_not_written_again(
    settings: Settings, tmp_path: Path
) -> None:
    RunState(settings, [], 2, stage_state()).save(tmp_path)
    path = tmp_path / "best-finetune_moe-2.safetensors"
    before = path.stat().st_ino
    RunState(settings, [], 2, stage_state(4)).save(tmp_path)
    assert path.stat().st_ino == before


@pytest.mark.parametrize("file", [LAST, "best-finetune_moe-2.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_a_damaged_state_is_refused_by_its_path(
    file: str, damage: str, settings: Settings, tmp_path: Path
) -> None:
    RunState(settings, [], 2, stage_state()).save(tmp_path)
    path = tmp_path / file
    content = path.read_bytes()
    path.write_bytes(content[:-1] if damage == "truncated" else content[:-1] + b"\x01")
    if damage == "gone":
        path.unlink()
    with pytest.raises(FedmemError, match=file):
        RunState.load(tmp_path)
    assert peek(tmp_path) is None


def test_a_state_of_another_version_is_refused_by_its_path(
    settings: Settings, tmp_path: Path
) -> None:
    RunState(settings, [], 2).save(tmp_path)
    about, tensors = load_sealed(tmp_path / LAST, "state")
    del about["hash"], about["settings"]["stage"]
    about["settings"]["stages"] = ["pretrain_sasrec"]
    save_sealed(tmp_path / LAST, about, tensors)
    with pytest.raises(FedmemError, match=rf"{LAST} is damaged, or of another version") as caught:
        RunState.load(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert peek(tmp_path) is None


def test_a_folder_is_for_one_process_at_a_time(settings: Settings) -> None:
    path = Path(settings.output_dir)
    with RunFolder.start(settings, simulated_nodes=2):
        for open_it in (lambda: RunFolder.go_on(path), lambda: RunFolder.start(settings)):
            with pytest.raises(FedmemError, match="Another process is at work"):
                open_it()
    with RunFolder.go_on(path) as folder:
        assert folder.state.simulated_nodes == 2


def test_a_folder_of_checkpoints_is_for_one_run_at_a_time(settings: Settings) -> None:
    other = replace(settings, output_dir=f"{settings.output_dir}-2")
    with RunFolder.start(settings):
        with pytest.raises(FedmemError, match=r"is in use by another run, .*/run\.\n") as caught:
            RunFolder.start(other)
        assert "checkpoint.dir=FOLDER" in str(caught.value)
        assert not Path(other.output_dir).exists()
    RunFolder.start(other).close()
    with RunFolder.start(settings), pytest.raises(FedmemError, match="is in use"):
        RunFolder.go_on(Path(other.output_dir))


def test_a_round_is_one_line_and_what_comes_after_the_last_is_cut(settings: Settings) -> None:
    path = Path(settings.output_dir)
    with RunFolder.start(settings) as folder:
        folder.end_rounds([{"stage": "finetune_moe", "round": 3}], stage_state())
    with (path / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"stage"')
    with RunFolder.go_on(path) as folder:
        folder.end_rounds([{"stage": "finetune_moe", "round": 4}], stage_state(4))
        assert [record["round"] for record in folder.rounds("finetune_moe")] == [3, 4]
    (path / "metrics.jsonl").write_text("")
    with pytest.raises(FedmemError, match=r"metrics\.jsonl has lost rounds"):
        RunFolder.go_on(path)
    with pytest.raises(FedmemError, match="lost"):  # and it is not locked by the first attempt
        RunFolder.go_on(path)


def test_a_new_run_leaves_nothing_of_one_that_was_there(settings: Settings) -> None:
    path = Path(settings.output_dir)
    with RunFolder.start(settings) as folder:
        folder.end_rounds([{"stage": "finetune_moe", "round": 3}], stage_state())
        folder.end_stage({"stage": "finetune_moe"}, "ab")
        folder.end_run(settings)
        (path / "nodes" / "0").mkdir(parents=True)
    assert json.loads((path / "results.json").read_text())["stages"] == [{"stage": "finetune_moe"}]
    with RunFolder.start(settings) as folder:
        assert not folder.state.done
        assert folder.state.results == []
    left = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
    assert left == {f"{STATE}/{LAST}", f"{STATE}/lock", "metrics.jsonl"}
    assert not list((path / "nodes").glob("*"))


def test_a_stage_starts_from_the_checkpoints_that_the_run_started_from(settings: Settings) -> None:
    with RunFolder.start(settings) as folder:
        folder.start_stage({"pretrain_sasrec": "ab"})
    with RunFolder.go_on(Path(settings.output_dir)) as folder:
        folder.start_stage({"pretrain_sasrec": "ab"})
        with pytest.raises(FedmemError, match=r"checkpoint\.pretrain_sasrec"):
            folder.start_stage({"pretrain_sasrec": "cd"})


def test_a_folder_that_was_moved_goes_on_where_it_is(settings: Settings, tmp_path: Path) -> None:
    RunFolder.start(settings).close()
    moved = Path(settings.output_dir).rename(tmp_path / "moved")
    with RunFolder.go_on(moved) as folder:
        assert folder.state.settings == replace(settings, output_dir=str(moved))


def test_paths_are_shown_as_one_would_type_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "runs" / "a") == "runs/a"
    assert shown(tmp_path.parent / "b") == str(tmp_path.parent / "b")


def test_a_run_that_is_going_is_read_without_its_best_parameters(settings: Settings) -> None:
    path = Path(settings.output_dir) / STATE
    with RunFolder.start(settings) as folder:
        folder.end_rounds([{"stage": "finetune_moe", "round": 3}], stage_state())
        for best in path.glob("best-*"):
            best.unlink()  # as a better round does, between the reading of one file and the other
        with pytest.raises(FedmemError, match="best parameters"):
            RunState.load(path)
        assert str(RunState.load(path, with_best=False)) == str(folder.state)
