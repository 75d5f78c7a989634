"""Tensors are written as safetensors writes them; what cannot be written is an OSError."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from fedmem.core.files.tensors import KINDS, write_tensors


def test_a_file_is_the_librarys_to_the_byte(tmp_path: Path) -> None:
    path, tensors = (
        tmp_path / "file",
        {
            "w": torch.arange(6.0).view(2, 3),
            "γ": torch.tensor(0.5),
            "empty": torch.zeros(0, 4),
            "step": torch.tensor([1, 2, 3]),
            "half": torch.ones(3, dtype=torch.bfloat16),
            "mark": torch.tensor([1, 2], dtype=torch.uint8),
        },
    )
    write_tensors(path, tensors, {"fedmem": '{"round": 3}'})
    assert path.read_bytes() == save(tensors, metadata={"fedmem": '{"round": 3}'})
    turned = {"w": tensors["w"].T}
    write_tensors(path, turned)
    assert path.read_bytes() == save({"w": tensors["w"].T.contiguous()})


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_kind_is_known_to_the_library(kind: torch.dtype, tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", {"x": torch.ones(3, dtype=kind)})
    assert (tmp_path / "file").read_bytes() == save({"x": torch.ones(3, dtype=kind)})


def test_a_disk_that_does_not_take_it_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        write_tensors(tmp_path / "file", {"x": torch.ones(3)})
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
