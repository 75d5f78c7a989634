"""A federation of real processes: how it is begun, waited for, held up, and what it leaves."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmem.core.checkpoint import Checkpoint
from fedmem.federation.deployment.local_federation import LocalFederation, Process
from tests.helpers.small_world import SMALL

PATIENCE = 600.0


ANSWER_WITHIN = 20
"""Seconds; three apps that compile their loops on two cores need 13 for their first answer."""


NODES = ("node-0", "node-1", "node-2")


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nodes train as Python: to compile takes longer than rounds of so few users."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")


def parts(data_dir: Path, nodes: int = 3) -> list[str]:
    """What each of so many nodes is told of the tiny data."""
    return [
        f'data="{data_dir}" partition-id={i} num-partitions={nodes} threads=1' for i in range(nodes)
    ]


def left_of(folder: Path) -> list[str]:
    """Command lines of the processes that know of a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder) in (entry / "environ").read_text() and entry.name != str(os.getpid()):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def overrides(*more: str) -> list[str]:
    return [*SMALL, "federation.nodes=3", "checkpoint.dir=checkpoints", "output_dir=run", *more]


def rounds(federation: LocalFederation) -> list[dict[str, Any]]:
    """What the run has written of its rounds so far."""
    path = federation.folder / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines]


def wait_for(what: Callable[[], object], running: Process) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.1)


def finish(running: Process) -> str:
    output, _ = running.communicate(timeout=PATIENCE)
    return output


def same_as_simulated(made_in: Path, simulated: Path, stages: Iterable[str]) -> None:
    for stage in stages:
        expected = Checkpoint.load(simulated / f"{stage}.safetensors")
        made = Checkpoint.load(made_in / "checkpoints" / f"{stage}.safetensors")
        for name, value in expected.parameters.items():
            torch.testing.assert_close(made.parameters[name], value, rtol=0, atol=1e-5)


def lines_of(federation: LocalFederation, name: str) -> list[str]:
    """What the rounds tell of a node."""
    node = federation.log(name).read_text().split("SuperNode ")[1].split()[0]
    told = [line for record in rounds(federation) for line in record["nodes"]]
    return [line.removeprefix(f"node {node}: ") for line in told if node in line]


def stop_in_mid_round(federation: LocalFederation, name: str, running: Process) -> None:
    """Hold a node up until the server waits for it: no round ends in the time of several."""
    federation.processes[name].send_signal(signal.SIGSTOP)
    # Of the latest, since the first rounds compile. After a minute without heartbeats the SuperLink
    # would give the node up, and rounds would go on without it.
    several = 5 * float(rounds(federation)[-1]["seconds"])
    done, since = len(rounds(federation)), time.monotonic()
    while time.monotonic() < since + several:
        time.sleep(0.1)
        assert running.poll() is None
        if len(rounds(federation)) != done:
            done, since = len(rounds(federation)), time.monotonic()


def messages_of_last_training(federation: LocalFederation) -> int:
    return next((r["messages"] for r in reversed(rounds(federation)) if r["round"]), 0)


def start_again(federation: LocalFederation, name: str) -> None:
    """As systemd would: until the SuperLink has noticed that the node was gone."""
    end = time.monotonic() + PATIENCE
    while federation.start_node(name).poll() is None and time.monotonic() < end:
        before = federation.log(name).read_text().count(" serves ")
        while federation.processes[name].poll() is None:
            time.sleep(1)
            if federation.log(name).read_text().count(" serves ") > before:
                return
    pytest.fail(f"{name} did not come back")
