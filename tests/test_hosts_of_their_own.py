"""SuperLink and SuperNodes in network namespaces: addresses of their own, and links that fail."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmem.core.checkpoint import Checkpoint
from fedmem.federation.deployment.local_federation import LocalFederation
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

SUPERLINK = "10.77.255.1"


def ip(*arguments: str) -> None:
    """Raises a `CalledProcessError` with the reason in `stderr` where it cannot be done."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Hosts:
    """A namespace for each part, and a cable from each node's to the SuperLink's."""

    def __init__(self) -> None:
        self._names = {part: f"fedmem-{os.getpid()}-{part}" for part in ("superlink", *NODES)}
        self.within = {part: ["ip", "netns", "exec", name] for part, name in self._names.items()}

    def make(self) -> None:
        for part in self._names:
            ip("netns", "add", self._names[part])
            self._at(part, "link", "set", "lo", "up")
        self._at("superlink", "addr", "add", f"{SUPERLINK}/32", "dev", "lo")
        for i, node in enumerate(NODES):
            other = ("peer", "name", "uplink", "netns", self._names[node])
            self._at("superlink", "link", "add", node, "type", "veth", *other)
            for part, end, address in (
                ("superlink", node, f"10.77.{i}.1/30"),
                (node, "uplink", f"10.77.{i}.2/30"),
            ):
                self._at(part, "addr", "add", address, "dev", end)
                self._at(part, "link", "set", end, "up")
            self._at(node, "route", "add", SUPERLINK, "via", f"10.77.{i}.1")

    def cut(self, node: str) -> None:
        """Pull the node's cable out, at the SuperLink's end."""
        self._at("superlink", "link", "set", node, "down")

    def restore(self, node: str) -> None:
        self._at("superlink", "link", "set", node, "up")

    def remove(self) -> None:
        """Cables go with the namespaces at their ends."""
        for name in self._names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def _at(self, part: str, *arguments: str) -> None:
        ip("-n", self._names[part], *arguments)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if shutil.which("ip") is None:
        pytest.skip("no network namespaces here: there is no command `ip`")
    hosts = Hosts()
    try:
        try:
            hosts.make()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
        yield hosts
    finally:
        hosts.remove()


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled")
def test_a_link_that_is_cut_in_mid_round_and_restored(
    hosts: Hosts, data_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "federation"
    folder.mkdir()
    asked = overrides("federation.rounds=40", "stage=pretrain_sasrec", "strategy.patience=100")
    with LocalFederation(folder, parts(data_dir), SUPERLINK, hosts.within) as federation:
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
