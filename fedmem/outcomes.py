"""Per-user outcomes: `ranks.npz` of a run, the ranks behind its averages.

A user is told by a place in the data, never by name. Only a simulation, or training on pooled data,
has this file: in a real federation no rank leaves its node.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from fedmem.errors import FedmemError
from fedmem.evaluation import Ranks

FILE = "ranks.npz"
USERS = "users"


def save_ranks(folder: Path, stage: str, ranks: Ranks) -> None:
    """Put a stage's ranks into the run's file: complete under its name, or not at all.

    Arrays are called `stage/users` and `stage/<ranking>`, [U] int32 each.
    """
    kept = load_ranks(folder) | {stage: ranks}
    arrays = {
        f"{name}/{part}": array
        for name, own in kept.items()
        for part, array in {USERS: own.users, **own.ranks}.items()
    }
    partial = folder / f"{FILE}.partial"
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    os.replace(partial, folder / FILE)


def load_ranks(folder: Path) -> dict[str, Ranks]:
    """The ranks of every stage in a run's folder, none where it has no file.

    Raises:
        FedmemError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        with np.load(path) as file:
            arrays = dict(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise FedmemError(f"{path} cannot be read: {error}.") from error
    stages: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        stage, _, part = name.partition("/")
        stages.setdefault(stage, {})[part] = array
    return {
        stage: Ranks(parts[USERS], {n: a for n, a in parts.items() if n != USERS})
        for stage, parts in stages.items()
    }
