"""Network namespaces for the parts of a local federation: addresses and links of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Self

from fedmem.core.errors import FedmemError

HUB = "superlink"
ADDRESS = "10.77.255.1"
"""Of the SuperLink."""


class LocalHosts:
    """A namespace for each part, and a cable from each node's to the SuperLink's; as a context.

    Args:
        nodes: their names, as `LocalFederation` has them; also those of the SuperLink's ends.

    Raises:
        FedmemError: namespaces cannot be made here, which takes root and the command `ip`.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        self._nodes = nodes
        self.names = {part: f"fedmem-{os.getpid()}-{part}" for part in (HUB, *nodes)}
        self.within = {part: ["ip", "netns", "exec", name] for part, name in self.names.items()}
        """As of `LocalFederation`."""

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def at(self, part: str, *arguments: str) -> None:
        """The command `ip` in a part's namespace."""
        run("ip", "-n", self.names[part], *arguments)

    def cable(self, node: str) -> None:
        """Lay a node's cable: its own end is called `uplink`."""
        other = ("peer", "name", "uplink", "netns", self.names[node])
        self.at(HUB, "link", "add", node, "type", "veth", *other)

    def _make(self) -> None:
        for part, name in self.names.items():
            run("ip", "netns", "add", name)
            self.at(part, "link", "set", "lo", "up")
        self.at(HUB, "addr", "add", f"{ADDRESS}/32", "dev", "lo")
        for i, node in enumerate(self._nodes):
            self.cable(node)
            for part, end, own, other in (
                (HUB, node, f"10.77.{i}.1", f"10.77.{i}.2"),
                (node, "uplink", f"10.77.{i}.2", f"10.77.{i}.1"),
            ):
                self.at(part, "addr", "add", own, "peer", other, "dev", end)
                self.at(part, "link", "set", end, "up")
            self.at(node, "route", "add", ADDRESS, "via", f"10.77.{i}.1")

    def _remove(self) -> None:
        """Cables go with the namespaces at their ends."""
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def run(*command: str) -> None:
    """Run a command of iproute2.

    Raises:
        FedmemError: it is not there, or what it asks for cannot be done here.
    """
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise FedmemError(f"There is no command `{command[0]}`: install iproute2.") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip() or f"exit {error.returncode}"
        raise FedmemError(f"`{' '.join(command)}` failed, and it takes root: {said}") from error
