"""What a node remembers of its users, on the node's own disk, so that it outlives the process.

A memory is a function of histories, rules, and of the models whose losses say what surprised. So it
is kept under a key of all of these: what another run left behind is not taken up.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedmem.core.files.sealed import load_sealed, save_sealed
from fedmem.core.memory.bank import Packed, without_user
from fedmem.core.settings import Settings

FILE = "memory.safetensors"
ELSEWHERE = ("output_dir", "checkpoint", "simulation", "run")
"""Settings that say where a run works and what goes on, and not what comes out."""


def memory_key(settings: Settings, frozen_hash: str, rules: str) -> str:
    """Under which the memories of a run are kept; the same where it goes on, even if moved.

    `frozen_hash`, of what the stage does not train, identifies the starting checkpoint; `rules` are
    those of `MemoryBank`.
    """
    kept = {k: v for k, v in asdict(settings).items() if k not in ELSEWHERE}
    for place in ("dir", "pictures", "forgotten_file"):
        del kept["data"][place]
    text = json.dumps([kept, frozen_hash, rules], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class NodeStore:
    """The memories of one node's users, as `MemoryBank.pack` gives them: the latest, one file.

    Its folder is the node's own, and made when the first is put.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def put(self, key: str, packed: Packed, forgotten: str = "") -> None:
        """Keep memories in place of those that were kept.

        `forgotten` is the `Histories.forgotten` of the histories that they are of.

        Raises:
            OSError: the disk does not take them; those before stay.
        """
        about = {"key": key, "forgotten": forgotten}
        save_sealed(self._path, about, {n: torch.from_numpy(x) for n, x in packed.items()})

    def get(self, key: str, forgotten: str = "") -> Packed | None:
        """The memories under this key, of histories without what was forgotten; None where none
        are kept, or others.

        Raises:
            FedmemError: the file is damaged. To fill the memories anew is no way out that may go
                unnoticed: by now another model says what surprises.
        """
        if not self._path.is_file():
            return None
        about, packed = self._load()
        if (about.get("key"), about.get("forgotten", "")) != (key, forgotten):
            return None
        return packed

    def forget(self, user: int, forgotten: str) -> bool:
        """Rewrite the file without a user's memory, which is then filled anew from what is left of
        the user's history; other users keep theirs. Whether there was a file.

        Raises:
            FedmemError: the file is damaged.
            OSError: the disk does not take it; the file before stays.
        """
        if not self._path.is_file():
            return False
        about, packed = self._load()
        self.put(str(about["key"]), without_user(packed, user), forgotten)
        return True

    def _load(self) -> tuple[dict[str, Any], Packed]:
        about, tensors = load_sealed(self._path, "node's memory")
        return about, {name: np.array(value.numpy()) for name, value in tensors.items()}
