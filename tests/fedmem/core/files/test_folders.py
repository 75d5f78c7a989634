"""Folders of runs that nobody shares, and locks on them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmem.core.files.folders import new_folder, remove_unused
from fedmem.core.files.lock import InUseError, lock_file


def test_a_new_folder_is_nobody_elses(tmp_path: Path) -> None:
    wanted = str(tmp_path / "runs" / "12-00-00")
    assert [new_folder(wanted) for _ in range(3)] == [wanted, f"{wanted}-2", f"{wanted}-3"]
    (tmp_path / "file").touch()
    assert new_folder(str(tmp_path / "file" / "run")) == str(tmp_path / "file" / "run")


def test_of_a_run_that_did_not_begin_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = Path("runs/data/time")
    (made / "hydra").mkdir(parents=True)
    (made / "hydra" / "config.yaml").touch()
    remove_unused(made)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", ["runs/data/time/state/lock", "runs/data/earlier/results.json"])
def test_what_holds_something_stays(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / kept).parent.mkdir(parents=True)
    (tmp_path / kept).touch()
    made = Path("runs/data/time")
    (made / "hydra").mkdir(parents=True, exist_ok=True)
    remove_unused(made)
    assert (tmp_path / kept).is_file()
    assert made.is_dir() == ("time" in kept)


def test_of_a_sweep_that_did_not_begin_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/data/time/0/hydra").mkdir(parents=True)
    (tmp_path / "runs/data/time/multirun.yaml").touch()
    remove_unused(Path("runs/data/time/0"))
    assert list(tmp_path.iterdir()) == []


def test_a_lock_says_who_holds_it_and_ends_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "made" / "lock"
    with lock_file(path, "the first"), pytest.raises(InUseError, match=r"^the first$"):
        lock_file(path)
    lock_file(path, "the second").close()
