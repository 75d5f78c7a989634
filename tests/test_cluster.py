"""The real command on a Ray cluster that was there before it, and that stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.errors import FedmemError
from fedmem.core.machine.cluster import survey
from fedmem.core.machine.placement import Machine
from fedmem.core.settings import Settings
from tests.helpers.commands import COMMAND, free_port, interrupt_when_under_way, processes_of
from tests.helpers.shared_runs import TrainOnce
from tests.helpers.small_world import SMALL

ROOT = Path(__file__).parents[1]
STAGE_1 = "stage=pretrain_sasrec"


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A Ray head of two cores in a session of its own, and its address."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        running = subprocess.Popen(
            [
                *(Path(sys.executable).with_name("ray"), "start", "--head", "--block"),
                *("--num-cpus=2", "--num-gpus=0", "--include-dashboard=false"),
                *("--disable-usage-stats", f"--temp-dir={folder}"),
                *("--node-ip-address=127.0.0.1", f"--port={port}"),
                f"--ray-client-server-port={free_port()}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=folder,  # not where the command runs
        )
        try:
            wait_for(f"127.0.0.1:{port}")
            yield running, f"127.0.0.1:{port}"
        finally:
            running.terminate()  # it ends the processes that it started
            running.wait(timeout=60)
            if processes_of(running.pid):
                os.killpg(running.pid, signal.SIGKILL)


def wait_for(address: str) -> None:
    deadline = time.monotonic() + 180
    while True:
        try:
            survey(address)
            return
        except FedmemError:
            if time.monotonic() > deadline:
                raise


def assert_unharmed(head: tuple[subprocess.Popen[bytes], str]) -> None:
    """The cluster answers, and no worker of a run is left in it."""
    running, address = head
    assert survey(address) == [Machine(cpus=2, gpus=0)]
    for _ in range(100):
        left = [line for line in processes_of(running.pid) if "ClientAppActor" in line]
        if not left:
            break
        time.sleep(0.2)
    assert left == []


@pytest.mark.slow
def test_a_run_on_a_cluster_gives_the_numbers_of_one_process_and_leaves_it_alive(
    head: tuple[subprocess.Popen[bytes], str],
    make_settings: Callable[..., Settings],
    train_once: TrainOnce,
    tmp_path: Path,
) -> None:
    train_once(make_settings(STAGE_1))
    relative = ["data.dir=data", "checkpoint.dir=ray", "hydra.run.dir=out"]
    joined = [f"simulation.ray_address={head[1]}", "federation.nodes=auto"]
    done = subprocess.run(
        [*COMMAND, *SMALL, STAGE_1, *joined, *relative],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "2 nodes on 2 workers of 1 threads" in done.stdout
    expected = Checkpoint.load(tmp_path / "checkpoints" / "pretrain_sasrec.safetensors")
    made = Checkpoint.load(tmp_path / "ray" / "pretrain_sasrec.safetensors")
    for name, value in expected.parameters.items():
        torch.testing.assert_close(made.parameters[name], value, rtol=0, atol=1e-5)
    assert_unharmed(head)


@pytest.mark.slow
def test_ctrl_c_on_a_cluster_ends_the_run_and_not_the_cluster(
    head: tuple[subprocess.Popen[bytes], str], data_dir: Path, tmp_path: Path
) -> None:
    interrupt_when_under_way(
        f"data.dir={data_dir}", f"simulation.ray_address={head[1]}", folder=tmp_path
    )
    assert_unharmed(head)
