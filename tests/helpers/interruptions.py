"""A run stopped at any moment: what lies on the disk then, and what comes of it when it goes on."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Context, Message

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.errors import FedmemError
from fedmem.core.files import atomic
from fedmem.core.settings import Settings
from fedmem.federation import client_app, kept_nodes
from fedmem.federation.server_app import Run
from fedmem.runs import folder as run_folder
from fedmem.runs import reporter
from fedmem.runs.folder import STATE, RunFolder
from fedmem.runs.records import StageResult
from fedmem.runs.resume import absolute, own_settings
from fedmem.runs.state import LAST
from tests.helpers.in_process_grid import InProcessGrid, Watcher

TIMES = ("seconds", "test_seconds", "evaluation_seconds")
AT_THE_EDGE = (
    "memory.surprise_threshold=3.7",
    "strategy.learning_rate=0.005",
    "strategy.cooldown=0",
)
"""Some losses on items without content are above the threshold and some below, and they move in
training; and the third stage has a best round that is not its start."""


def forget() -> None:
    """What the end of all processes does to what they held in memory."""
    kept_nodes.cached_node.cache_clear()
    kept_nodes.frozen_store.cache_clear()
    kept_nodes.scope_store.cache_clear()


def run_anew(settings: Settings) -> list[StageResult]:
    forget()
    with RunFolder.start(absolute(settings), (), settings.federation.nodes) as folder:
        return Run(settings, [Watcher()], folder=folder)(InProcessGrid(settings.federation.nodes))


def let_go_on(path: Path) -> list[StageResult]:
    forget()
    with RunFolder.go_on(path) as folder:
        settings = own_settings(folder.state, [])
        return Run(settings, [Watcher()], folder=folder)(InProcessGrid(settings.federation.nodes))


def outcome(settings: Settings) -> dict[str, Any]:
    """Everything that a run leaves, times apart."""
    output, checkpoints = Path(settings.output_dir), Path(settings.checkpoint.dir)
    lines = (output / "metrics.jsonl").read_text().splitlines()
    results = json.loads((output / "results.json").read_text())["stages"]
    novelty = output / "novelty.json"
    return {
        "parameters": [
            Checkpoint.load(checkpoints / f"{stage}.safetensors").hash for stage in settings.stage
        ],
        # The frozen rest travels again to nodes that start again.
        "rounds": [
            timeless(record) | {"bytes_down": record["bytes_down"] - record["bytes_frozen"]}
            for record in map(json.loads, lines)
        ],
        "results": [timeless(result) for result in results],
        "novelty": novelty.read_text() if "finetune_moe" in settings.stage else None,
    }


def timeless(record: dict[str, Any]) -> dict[str, Any]:
    apart = (*TIMES, "bytes_frozen", "evaluation_bytes", "traffic", "test_bytes", "checkpoint")
    return {k: v for k, v in record.items() if k not in apart}


def failing_at(message: int) -> Callable[[InProcessGrid, Iterable[Message]], Iterable[str]]:
    """A way to push messages that fails at the one of this number, counted over the run."""
    push, count = InProcessGrid.push_messages, 0

    def failing(self: InProcessGrid, messages: Iterable[Message]) -> Iterable[str]:
        nonlocal count
        for each in messages:
            count += 1
            if count == message:
                raise FedmemError("out of order")
            yield from push(self, [each])

    return failing


class Camera:
    """Keeps what lies in folders at every message and at every write, each state once.

    Args:
        folders: that a run writes to.
        album: where copies are kept.
    """

    def __init__(self, folders: Iterable[Path], album: Path) -> None:
        self.folders = list(folders)
        self.album = album
        self.pictures: list[tuple[str, Path]] = []
        self._seen: set[str] = set()

    def take(self, moment: str) -> None:
        digest = hashlib.sha256()
        for folder in self.folders:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    digest.update(str(path).encode() + path.read_bytes())
        if digest.hexdigest() in self._seen:
            return
        self._seen.add(digest.hexdigest())
        kept = self.album / str(len(self.pictures))
        for place, folder in enumerate(self.folders):
            if folder.is_dir():
                shutil.copytree(folder, kept / str(place))
        self.pictures.append((moment, kept))

    def restore(self, kept: Path) -> None:
        for place, folder in enumerate(self.folders):
            shutil.rmtree(folder, ignore_errors=True)
            if (kept / str(place)).is_dir():
                shutil.copytree(kept / str(place), folder)


def photographed(settings: Settings, album: Path, writing_share: float = math.inf) -> Camera:
    """Run a run, and keep what would lie on the disk if it had been killed, at every moment.

    Every round is written, unless less of the time may go to writing.
    """
    camera = Camera([Path(settings.output_dir), Path(settings.checkpoint.dir)], album)
    with pytest.MonkeyPatch.context() as patched:
        for module in (atomic, run_folder):
            patched.setattr(module, "flush", around(atomic.flush, camera))
        patched.setattr(os, "replace", around(os.replace, camera))
        patched.setattr(reporter, "WRITING_SHARE", writing_share)
        app = client_app.app

        class Photographed:
            def __call__(self, message: Message, context: Context) -> Message:
                camera.take(f"before {message.metadata.message_type}")
                reply = app(message, context)
                camera.take(f"after {message.metadata.message_type}")
                return reply

        patched.setattr(InProcessGrid, "app", Photographed(), raising=False)
        patched.setattr("tests.helpers.in_process_grid.app", Photographed())
        run_anew(settings)
    return camera


def around(write: Callable[..., None], camera: Camera) -> Callable[..., None]:
    def wrapped(*paths: Path | str) -> None:  # a cache of compiled code writes strings
        camera.take(f"before {Path(paths[-1]).name}")
        write(*paths)
        camera.take(f"after {Path(paths[-1]).name}")

    return wrapped


if __name__ == "__main__":  # a process that may be killed: python -m tests.helpers.interruptions
    torch.set_num_threads(1)  # as in the tests: with more, sums are made in another order
    asked = Settings.from_json(Path(sys.argv[1]).read_text())
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    if (Path(asked.output_dir) / STATE / LAST).is_file():
        let_go_on(Path(asked.output_dir))
    else:
        run_anew(asked)
