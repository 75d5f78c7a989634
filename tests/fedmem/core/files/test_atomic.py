"""A file is whole under its name, or what was there before stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedmem.core.files.atomic import replacing


def test_an_error_in_mid_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def write() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        write()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(OSError, match="file"), replacing(path) as partial:
        partial.write_text("half")
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "taken").touch()  # nor can a file hold one
    with pytest.raises(OSError, match=r"taken/file'"), replacing(tmp_path / "taken" / "file"):
        pass


def test_what_a_killed_process_left_behind_goes_and_what_a_living_one_writes_stays(
    tmp_path: Path,
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f"file.{os.uname().nodename}.{ended.pid}.partial"
    living = tmp_path / f"file.{os.uname().nodename}.{os.getppid()}.partial"
    of_another_machine = tmp_path / f"file.elsewhere.{ended.pid}.partial"
    for file in (left, living, of_another_machine):
        file.touch()
    with replacing(tmp_path / "file") as partial:
        partial.touch()
    assert not left.exists()
    assert living.exists()
    assert of_another_machine.exists()
