"""A federation of real processes on loopback: what it reaches, refuses and survives."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from fedmem.federation.deployment.demonstration import deal_out
from fedmem.federation.deployment.local_federation import LocalFederation
from tests.helpers.deployment import (
    ANSWER_WITHIN,
    NODES,
    PATIENCE,
    finish,
    left_of,
    lines_of,
    messages_of_last_training,
    overrides,
    parts,
    rounds,
    same_as_simulated,
    start_again,
    stop_in_mid_round,
    wait_for,
)
from tests.helpers.deployment import uncompiled as uncompiled
from tests.helpers.in_process_grid import run_in_process
from tests.helpers.interruptions import AT_THE_EDGE
from tests.helpers.shared_runs import TrainOnce

MakeSettings = Callable[..., Settings]


@pytest.fixture
def federation(data_dir: Path, tmp_path: Path) -> Iterator[LocalFederation]:
    folder = tmp_path / "federation"
    folder.mkdir()
    with LocalFederation(folder, parts(data_dir)) as federation:
        yield federation
    assert left_of(folder) == []


@pytest.mark.usefixtures("uncompiled")
def test_two_nodes_come_to_the_parameters_of_the_simulation_and_strangers_are_refused(
    make_settings: MakeSettings,
    train_once: TrainOnce,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nodes have own data; a stranger has a key that nobody registered, or does not speak TLS."""
    folder = tmp_path / "federation"
    folder.mkdir()
    asked = ["stage=pretrain_sasrec", "federation.nodes=2"]
    settings = make_settings(*asked)
    configs = deal_out(settings.data, folder, nodes=2)
    federation = LocalFederation(folder, [*configs, configs[0]])
    try:
        federation.start_superlink()
        stranger = federation.start_node("node-2")
        for node in ("node-0", "node-1"):
            federation.register(node)
            federation.start_node(node)
        host, _, port = federation.address.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as plain:
            plain.sendall(b"POST /v1/fleet/activate-node HTTP/1.1\r\nHost: x\r\n\r\n")
            assert not plain.recv(100).startswith(b"HTTP")
        output = finish(federation.run(*overrides(*asked)))
        assert "pretrain_sasrec: best round" in output, output
        monkeypatch.delenv("NUMBA_DISABLE_JIT")  # which numba would heed in this process, too
        train_once(settings)
        same_as_simulated(folder, tmp_path / "checkpoints", ["pretrain_sasrec"])
        assert [record["messages"] for record in rounds(federation)] == [2, 2]
        assert stranger.wait(PATIENCE) == 1
        serves = [" serves " in federation.log(f"node-{node}").read_text() for node in range(3)]
        assert serves == [True, True, False]
        told = federation.log("superlink").read_text()
        assert told.count("A caller was refused: it does not speak TLS") == 1, told
    finally:
        federation.close()
    assert left_of(folder) == []


@pytest.mark.slow
def test_three_nodes_come_to_the_parameters_of_the_simulation(
    federation: LocalFederation, make_settings: MakeSettings, tmp_path: Path
) -> None:
    run_in_process(make_settings("federation.nodes=3"))
    output = finish(federation.run(*overrides()))
    assert "finetune_moe: best round" in output, output
    same_as_simulated(federation.folder, tmp_path / "checkpoints", STAGES)


@pytest.mark.slow
def test_a_node_killed_in_mid_round_comes_back_with_its_memory(
    federation: LocalFederation, make_settings: MakeSettings, tmp_path: Path
) -> None:
    expected, _, _ = run_in_process(make_settings("federation.nodes=3", "federation.rounds=1"))
    running = federation.run(
        *overrides("stage=finetune_moe", f"checkpoint.dir={tmp_path / 'checkpoints'}"),
        *("federation.rounds=30", "strategy.patience=100", "strategy.round_timeout=600"),
        *AT_THE_EDGE,
    )
    wait_for(lambda: len(rounds(federation)) > 3, running)
    memories = {name: federation.folder / name / "memory.safetensors" for name in NODES}
    stop_in_mid_round(federation, "node-1", running)
    federation.stop("node-1", signal.SIGKILL)
    kept = {name: path.read_bytes() for name, path in memories.items()}
    written = memories["node-1"].stat().st_mtime_ns
    wait_for(lambda: messages_of_last_training(federation) == 2, running)
    start_again(federation, "node-1")
    wait_for(lambda: messages_of_last_training(federation) == 3, running)
    assert {name: path.read_bytes() for name, path in memories.items()} == kept
    assert memories["node-1"].stat().st_mtime_ns > written  # taken up, and kept anew
    unanswered = {"left without an answer", "its reply did not arrive in full"}  # or half sent
    assert unanswered & set(lines_of(federation, "node-1"))
    assert "is back" in lines_of(federation, "node-1")
    output = finish(running)
    assert "finetune_moe: best round" in output, output
    results = json.loads((federation.folder / "run" / "results.json").read_text())
    assert results["stages"][0]["memory"]["ingested"] == expected[2].memory["ingested"]


@pytest.mark.slow
def test_a_superlink_that_stops_loses_no_finished_round(
    federation: LocalFederation, make_settings: MakeSettings, tmp_path: Path
) -> None:
    asked = ["federation.rounds=8", "stage=pretrain_sasrec"]
    run_in_process(make_settings("federation.nodes=3", *asked))
    running = federation.run(*overrides(*asked))
    wait_for(lambda: len(rounds(federation)) > 2, running)
    federation.stop("superlink", signal.SIGKILL)
    finish(running)
    done = len(rounds(federation))
    assert done < 8
    federation.start_superlink()
    output = finish(federation.run(*overrides(*asked, "run.resume=run")))
    assert f"goes on pretrain_sasrec after round {done}" in output, output
    assert "best round" in output, output
    assert [record["round"] for record in rounds(federation)] == list(range(1, 9))
    same_as_simulated(federation.folder, tmp_path / "checkpoints", ["pretrain_sasrec"])


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled")
def test_a_slow_node_is_left_out_and_a_late_one_joins(data_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "federation"
    folder.mkdir()
    with LocalFederation(folder, parts(data_dir)) as federation:
        federation.stop("node-2")
        running = federation.run(
            *overrides("federation.nodes=2", "federation.rounds=60", "stage=pretrain_sasrec"),
            f"strategy.round_timeout={ANSWER_WITHIN}",
        )
        wait_for(lambda: len(rounds(federation)) > 2, running)
        assert {record["messages"] for record in rounds(federation)} == {2}
        federation.start_node("node-2")
        wait_for(lambda: rounds(federation)[-1]["messages"] == 3, running)
        assert "joined with 8 users" in lines_of(federation, "node-2")
        stop_in_mid_round(federation, "node-1", running)
        wait_for(lambda: rounds(federation)[-1]["messages"] == 2, running)
        assert f"did not answer in {ANSWER_WITHIN} s" in lines_of(federation, "node-1")
        federation.processes["node-1"].send_signal(signal.SIGCONT)
        wait_for(lambda: rounds(federation)[-1]["messages"] == 3, running)
        output = finish(running)
    assert "best round" in output, output
    assert left_of(folder) == []


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled")
def test_too_few_nodes_stop_a_run_with_one_line(federation: LocalFederation) -> None:
    running = federation.run(
        *overrides("federation.rounds=1000", "stage=pretrain_sasrec", "strategy.patience=1000"),
        *(f"strategy.round_timeout={ANSWER_WITHIN}", "strategy.min_nodes=2"),
    )
    wait_for(lambda: len(rounds(federation)) > 2, running)
    for name in ("node-0", "node-1"):
        federation.stop(name, signal.SIGKILL)
    output = finish(running)
    (line,) = [line for line in output.splitlines() if "usable replies" in line]
    assert "1 usable replies, and 2 are needed (strategy.min_nodes)" in line
    # By whatever the SuperLink knew: a minute without heartbeats, and a node is gone.
    reasons = (f"did not answer in {ANSWER_WITHIN} s", "left without an answer", "is gone")
    assert sum(line.count(reason) for reason in reasons) == 2
    assert "Traceback" not in output
    assert (federation.folder / "run" / "state" / "last.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled")
def test_a_hub_without_features_starts_from_those_of_its_nodes_if_all_have_the_same(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub has nothing of its own, the nodes have own histories; then one has other texts."""
    folder = tmp_path / "federation"
    folder.mkdir()
    asked = ["stage=[pretrain_sasrec,align_projectors]", "model.item_start=content"]
    asked = [*asked, "federation.nodes=2", "strategy.min_nodes=2"]
    settings = make_settings(*asked)
    configs = deal_out(settings.data, folder, nodes=2)
    with LocalFederation(folder, configs) as federation:
        output = finish(federation.run(*overrides(*asked)))
        assert "align_projectors: best round" in output, output
        texts = folder / "data-1" / "text_features.pt"
        torch.save(torch.load(texts) + 1, texts)
        federation.stop("node-1")
        start_again(federation, "node-1")
        elsewhere = ["output_dir=other", "checkpoint.dir=other", "stage=pretrain_sasrec"]
        output = finish(federation.run(*overrides(*asked[1:], *elsewhere)))
        assert "has other item features than" in output, output
        assert not (folder / "other" / "pretrain_sasrec.safetensors").exists()
    assert left_of(folder) == []
    monkeypatch.delenv("NUMBA_DISABLE_JIT")  # which numba would heed in this process, too
    run_in_process(settings)
    same_as_simulated(folder, tmp_path / "checkpoints", ["pretrain_sasrec", "align_projectors"])
