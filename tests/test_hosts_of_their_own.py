"""SuperLink and SuperNodes in network namespaces: addresses of their own, and links that fail."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.errors import FedmemError
from fedmem.federation.deployment.local_federation import LocalFederation
from fedmem.federation.deployment.local_hosts import ADDRESS, HUB, LocalHosts
from tests.helpers.deployment import (
    ANSWER_WITHIN,
    NODES,
    finish,
    left_of,
    lines_of,
    overrides,
    parts,
    rounds,
    wait_for,
)
from tests.helpers.deployment import uncompiled as uncompiled


class Hosts(LocalHosts):
    """Their cables can be pulled out, at the SuperLink's end."""

    def cut(self, node: str) -> None:
        self.at(HUB, "link", "set", node, "down")

    def restore(self, node: str) -> None:
        self.at(HUB, "link", "set", node, "up")


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with contextlib.ExitStack() as stack:
        try:
            hosts = stack.enter_context(Hosts(NODES))
        except FedmemError as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield hosts


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled")
def test_a_link_that_is_cut_in_mid_round_and_restored(
    hosts: Hosts, data_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "federation"
    folder.mkdir()
    asked = overrides("federation.rounds=40", "stage=pretrain_sasrec", "strategy.patience=100")
    with LocalFederation(folder, parts(data_dir), ADDRESS, hosts.within) as federation:
        running = federation.run(*asked, f"strategy.round_timeout={ANSWER_WITHIN}")
        wait_for(lambda: len(rounds(federation)) > 2, running)
        assert {record["messages"] for record in rounds(federation)} == {3}
        hosts.cut("node-1")
        wait_for(lambda: rounds(federation)[-1]["messages"] == 2, running)
        assert f"did not answer in {ANSWER_WITHIN} s" in lines_of(federation, "node-1")
        hosts.restore("node-1")
        wait_for(lambda: rounds(federation)[-1]["messages"] == 3, running)
        assert federation.processes["node-1"].poll() is None
        output = finish(running)
        assert [record["round"] for record in rounds(federation)] == list(range(1, 41))
        assert {record["messages"] for record in rounds(federation)} == {2, 3}
    assert "best round" in output, output
    Checkpoint.load(folder / "checkpoints" / "pretrain_sasrec.safetensors")
    assert left_of(folder) == []
