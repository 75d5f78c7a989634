"""What was sealed comes back, and damage is found."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

from fedmem.core.errors import FedmemError
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
