"""The real command, killed or with a worker killed, and let go on: the same bits."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmem.core.machine.workers import PROGRAM
from fedmem.core.settings import Settings
from tests.helpers.commands import COMMAND, processes_of
from tests.helpers.interruptions import outcome
from tests.helpers.small_world import SMALL

pytestmark = pytest.mark.slow
MakeSettings = Callable[..., Settings]
LONG = ["federation.rounds=25", "federation.evaluate_every=5", "memory.surprise_threshold=3.7"]


class Runs:
    """Starts the command on the tiny data, in sessions of their own."""

    def __init__(self, data_dir: Path, folder: Path) -> None:
        self._own = [f"data.dir={data_dir}", f"checkpoint.dir={folder / 'checkpoints'}"]
        self.output = folder / "out"

    def start(self, *overrides: str) -> subprocess.Popen[str]:
        command = [*COMMAND, *SMALL, *self._own, *LONG, f"hydra.run.dir={self.output}", *overrides]
        return subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def go_on(self) -> subprocess.Popen[str]:
        has_begun = (self.output / "state").is_dir()
        return self.start(*([f"run.resume={self.output}"] if has_begun else []))

    def finish(self) -> None:
        running = self.go_on()
        _, errors = running.communicate(timeout=300)
        assert running.returncode == 0, errors


def kill(running: subprocess.Popen[str]) -> None:
    """SIGKILL, for the command alone: its workers end by themselves."""
    running.kill()
    running.wait()
    for _ in range(100):
        if not processes_of(running.pid):
            break
        time.sleep(0.1)
    assert processes_of(running.pid) == []


def workers_of(command: int) -> list[int]:
    """Processes of a command that have no others below them and answer its nodes' messages."""
    parents = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == command and PROGRAM in (entry / "cmdline").read_text():
                parents[int(entry.name)] = int(fields[1])
    return [process for process, parent in parents.items() if parent in parents]


@pytest.fixture
def runs(data_dir: Path, tmp_path: Path) -> Runs:
    return Runs(data_dir, tmp_path / "run")


@pytest.fixture
def settings_of_run(make_settings: MakeSettings, runs: Runs) -> Settings:
    settings = make_settings(*LONG, f"checkpoint.dir={runs.output.parent / 'checkpoints'}")
    return replace(settings, output_dir=str(runs.output))


@pytest.fixture
def expected(settings_of_run: Settings, runs: Runs) -> dict[str, Any]:
    """What the undisturbed run comes to, at the same place: paths are a part of messages."""
    runs.finish()
    found = outcome(settings_of_run)
    shutil.rmtree(runs.output.parent)
    return found


def test_killed_again_and_again_it_ends_with_the_same_bits(
    runs: Runs, expected: dict[str, Any], settings_of_run: Settings
) -> None:
    generator = random.Random(0)
    for _ in range(6):
        running = runs.go_on()
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(timeout=generator.uniform(4.0, 14.0))
        kill(running)
    runs.finish()
    assert outcome(settings_of_run) == expected


def test_a_worker_that_is_killed_changes_nothing(
    runs: Runs, expected: dict[str, Any], settings_of_run: Settings
) -> None:
    running, killed = runs.start(), 0
    while running.poll() is None and killed < 2:
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(timeout=3.0)
        for worker in workers_of(running.pid)[:1]:
            os.kill(worker, signal.SIGKILL)
            killed += 1
    _, errors = running.communicate(timeout=300)
    assert killed
    assert running.returncode == 0, errors
    assert outcome(settings_of_run) == expected
