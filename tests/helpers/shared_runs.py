"""Runs that many tests look at, made once: none of them may change what it is given."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.settings import Settings
from fedmem.runs.records import StageResult
from tests.helpers.in_process_grid import InProcessGrid, Watcher, run_in_process


def load_all(settings: Settings) -> dict[str, Checkpoint]:
    """The checkpoint of each stage of the settings."""
    folder = Path(settings.checkpoint.dir)
    return {stage: Checkpoint.load(folder / f"{stage}.safetensors") for stage in settings.stage}


@dataclass(frozen=True)
class WholeRun:
    """All three stages of the tiny world, and all that was said in them."""

    settings: Settings
    results: list[StageResult]
    watcher: Watcher
    grid: InProcessGrid
    checkpoints: dict[str, Checkpoint]

    @classmethod
    def of(cls, settings: Settings) -> WholeRun:
        return cls(settings, *run_in_process(settings), load_all(settings))


@dataclass
class TrainOnce:
    """Checkpoints by what they are trained with: the settings, the data, and where they start.

    Args:
        album: where they are kept.
    """

    album: Path
    _kept: dict[str, Path] = field(default_factory=dict)

    def __call__(self, settings: Settings) -> None:
        """Leave in `checkpoint.dir` what a run leaves there, and make it only the first time."""
        made, key = Path(settings.checkpoint.dir), self._key(settings)
        if key not in self._kept:
            run_in_process(settings)
            self._kept[key] = self.album / str(len(self._kept))
            shutil.copytree(made, self._kept[key])
        shutil.copytree(self._kept[key], made, dirs_exist_ok=True)

    @staticmethod
    def _key(settings: Settings) -> str:
        values = json.loads(settings.to_json())
        places = (
            values.pop("output_dir"),
            values["data"].pop("dir"),
            values["checkpoint"].pop("dir"),
        )
        digest = hashlib.sha256(json.dumps(values).encode())
        for place in places[1:]:
            for path in sorted(Path(place).glob("*")):
                if path.is_file():
                    digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()
