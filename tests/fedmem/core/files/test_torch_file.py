"""Files of torch.save are read as data: what would run is refused, what is damaged is named."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedmem.core.errors import FedmemError
from fedmem.core.files.torch_file import is_torch_file, read_torch_file


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["zip", "pickle", "old"])
def test_a_pickle_that_would_run_is_refused_and_nothing_runs(form: str, tmp_path: Path) -> None:
    path, touched = tmp_path / "model.pt", tmp_path / "touched"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"weight": Touch(touched)}))
    else:
        content = {"weight": Touch(touched)}
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(FedmemError, match="nothing of it was read") as caught:
        read_torch_file(path)
    assert not touched.exists()
    assert len(str(caught.value).splitlines()) <= 3
    pickle.loads(pickle.dumps(Touch(touched)))
    assert touched.exists()


def test_what_is_named_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": np.ones(3)}, path)
    with pytest.raises(FedmemError, match=r"refers to numpy\._core\.multiarray\._reconstruct"):
        read_torch_file(path)


@pytest.mark.parametrize("new", [True, False])
def test_weights_come_back(new: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.arange(3)}, path, _use_new_zipfile_serialization=new)
    assert is_torch_file(path)
    assert torch.equal(read_torch_file(path)["weight"], torch.arange(3))


def test_a_flipped_byte_among_the_numbers_is_found(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.full((64,), 1.5)}, path)
    whole = path.read_bytes()
    place = whole.index(torch.full((64,), 1.5).numpy().tobytes()) + 7
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(FedmemError, match="does not match its checksum"):
        read_torch_file(path)


@pytest.mark.parametrize("kept", [0, 1, 10, 200, -1])
def test_a_file_cut_short_is_named(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.ones(64)}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(FedmemError, match=r"model\.pt"):
        read_torch_file(path)
