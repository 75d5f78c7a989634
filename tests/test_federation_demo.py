"""`make federation-demo` as its user sees it, on the tiny data: its end, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from tests.helpers.deployment import PATIENCE, left_of, same_as_simulated
from tests.helpers.in_process_grid import run_in_process
from tests.helpers.small_world import SMALL

MakeSettings = Callable[..., Settings]


def start_demo(data_dir: Path, place: Path, rounds: int) -> subprocess.Popen[str]:
    place.mkdir()
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "fedmem.federation.demo"),
            *(*SMALL, f"data.dir={data_dir}", f"federation.rounds={rounds}"),
        ],
        cwd=place,
        # To compile the memory's loop would take every node longer than all that is asked of it.
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_three_nodes_with_data_of_their_own_come_to_the_parameters_of_the_simulation(
    data_dir: Path, make_settings: MakeSettings, tmp_path: Path
) -> None:
    demo = start_demo(data_dir, tmp_path / "demo", rounds=1)
    run_in_process(make_settings("federation.nodes=3", "federation.rounds=1"))
    output, _ = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 0, output
    (folder,) = (tmp_path / "demo" / "runs" / "federation-demo").iterdir()
    same_as_simulated(folder, tmp_path / "checkpoints", STAGES)
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    trained = [record for record in map(json.loads, lines) if record["round"]]
    assert len(trained) == 3
    assert all(record["bytes_down"] and record["bytes_up"] for record in trained)
    assert all(
        record["evaluation_bytes"] for record in map(json.loads, lines) if record["validation"]
    )
    results = json.loads((folder / "run" / "results.json").read_text())
    assert f"{results['stages'][2]['test']['full/HR@10']:.4f}" in output  # the table
    told = [path.parent.name for path in (folder / "run" / "tensorboard").glob("*/events.*")]
    assert sorted(told) == sorted(STAGES)
    assert all((folder / f"node-{node}" / "memory.safetensors").is_file() for node in range(3))
    assert left_of(folder) == []


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(data_dir: Path, tmp_path: Path) -> None:
    demo = start_demo(data_dir, tmp_path / "demo", rounds=10_000)
    assert demo.stdout is not None
    while not list((tmp_path / "demo").glob("runs/federation-demo/*/run")):
        assert demo.poll() is None, demo.stdout.read()
        time.sleep(0.1)
    (folder,) = (tmp_path / "demo" / "runs" / "federation-demo").iterdir()
    assert len(left_of(folder)) > 4
    os.killpg(demo.pid, signal.SIGINT)
    output, _ = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 130, output
    assert output.splitlines()[-1] == "fedmem: interrupted. All that was started is gone."
    assert "Traceback" not in output
    assert left_of(folder) == []
