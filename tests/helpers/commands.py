"""Commands in processes of their own: interrupted, and what of them still runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.helpers.small_world import SMALL

COMMAND = [sys.executable, "-m", "fedmem.simulate"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def processes_of(group: int) -> list[str]:
    """Command lines of the processes in a session that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == group and fields[0] != "Z":
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except (OSError, IndexError):
            continue
    return found


def interrupt_when_under_way(
    *overrides: str, folder: Path, how: signal.Signals = signal.SIGINT
) -> None:
    """Start a long run, end it by a signal after some rounds, and see that it ends as it should."""
    metrics = folder / "out" / "metrics.jsonl"
    own = [f"checkpoint.dir={folder / 'checkpoints'}", f"hydra.run.dir={folder / 'out'}"]
    running = subprocess.Popen(
        [*COMMAND, *SMALL, *own, "federation.rounds=100000", *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, which gets the signal as in a terminal
    )
    errors = interrupted(running, lambda: [metrics] if metrics.is_file() else [], how)
    assert errors.startswith(
        "fedmem: interrupted. Go on with: python -m fedmem.simulate run.resume="
    )
    assert len(errors.strip().splitlines()) == 1
    assert not list(folder.glob("checkpoints/*.safetensors"))  # no stage had finished


def interrupted(
    running: subprocess.Popen[str],
    metrics: Callable[[], list[Path]],
    how: signal.Signals = signal.SIGINT,
) -> str:
    """What a process says when a signal ends it after some rounds; nothing of it stays.

    Ctrl-C goes to all of its group, other signals to it alone.
    """
    try:
        deadline = time.monotonic() + 120
        while sum(path.read_text().count("\n") for path in metrics()) <= 2:
            assert running.poll() is None, running.stderr
            assert time.monotonic() < deadline
            time.sleep(0.2)
        (os.killpg if how == signal.SIGINT else os.kill)(running.pid, how)
        _, errors = running.communicate(timeout=60)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 128 + how
    for _ in range(100):
        left = processes_of(running.pid)
        if not left:
            break
        time.sleep(0.2)
    assert left == []
    return errors
