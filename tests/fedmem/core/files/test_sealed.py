"""A file is whole under its name, or what was there before stays."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fedmem.core.errors import FedmemError
from fedmem.core.files.atomic import replacing
from fedmem.core.files.sealed import load_sealed, save_sealed

TENSORS = {"a": torch.arange(6.0).view(2, 3), "scalar": torch.tensor(0.5)}


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    save_sealed(path, {"round": 3, "loss": 0.1 + 0.2, "none": None}, TENSORS)
    about, tensors = load_sealed(path, "state")
    del about["hash"]
    assert about == {"round": 3, "loss": 0.1 + 0.2, "none": None}
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())
    assert list(path.parent.iterdir()) == [path]


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    """Or changes nothing: the format has bytes of padding."""
    path = tmp_path / "file"
    save_sealed(path, {"round": 3}, {"a": torch.ones(2)})
    whole, unnoticed = path.read_bytes(), 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with contextlib.suppress(FedmemError):
            about, tensors = load_sealed(path, "state")
            assert about["round"] == 3
            assert torch.equal(tensors["a"], torch.ones(2))
            unnoticed += 1
    assert unnoticed < len(whole) / 10


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
    left = tmp_path / f"file.{ended.pid}.partial"
    living = tmp_path / f"file.{os.getppid()}.partial"
    left.touch()
    living.touch()
    with replacing(tmp_path / "file") as partial:
        partial.touch()
    assert not left.exists()
    assert living.exists()
