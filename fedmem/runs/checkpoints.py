"""The checkpoints that a run left behind, which another run may have written over since."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.data.id_files import read_item_ids
from fedmem.core.data.ids import fingerprint, padded
from fedmem.core.errors import FedmemError
from fedmem.core.files.sealed import load_sealed
from fedmem.runs.folder import STATE, shown
from fedmem.runs.state import LAST


def hashes_of(folder: Path) -> dict[str, str]:
    """Content hash of every checkpoint that a finished run made or started from, by stage; none
    where its state is gone, or of a version that has no such thing.
    """
    with contextlib.suppress(FedmemError):
        hashes: dict[str, str] = load_sealed(folder / STATE / LAST, "run's state")[0].get(
            "checkpoints", {}
        )
        return hashes
    return {}


def load_left(folder: Path, stage: str, path: Path, hashes: Mapping[str, str]) -> Checkpoint:
    """The checkpoint that the run in a folder left of a stage at a path.

    `hashes` are those of the run's checkpoints, by stage, as far as they are known.

    Raises:
        FedmemError: it is gone, damaged, or of another run or other items.
    """
    if not path.is_file():
        raise FedmemError(f"{shown(path)} is gone")
    checkpoint, items = Checkpoint.load(path), read_item_ids(folder)
    known = items is None or fingerprint(padded(items)) == checkpoint.catalogue
    if not known or hashes.get(stage, checkpoint.hash) != checkpoint.hash:
        raise FedmemError(
            f"{shown(path)} is of another run since: give each run of a sweep its own "
            "checkpoint.dir"
        )
    return checkpoint
