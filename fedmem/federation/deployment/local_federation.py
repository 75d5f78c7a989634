"""A whole federation on one machine: a SuperLink and SuperNodes, each a process of its own.

The demo, the benchmark and the tests start theirs here, with the commands of docs/deployment.md:
TLS, a key for every node, nothing shared but the network. Whatever was started is gone afterwards.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from fedmem.certificates import make_certificates
from fedmem.core.errors import FedmemError
from fedmem.core.machine.children import environment

Process = subprocess.Popen[str]

CONNECTION = "federation"  # name of the SuperLink in the configuration of `flwr`
BINARIES = Path(sys.executable).parent
PROJECT = Path(__file__).resolve().parents[3]
START_SECONDS, STOP_SECONDS = 60.0, 10.0
PROBE = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)"


class LocalFederation:
    """A SuperLink and SuperNodes, on loopback by default; entered, it is up.

    Args:
        folder: for certificates, keys, logs, the SuperLink's database and each node's state.
        nodes: `--node-config` of each node, without its `state-dir`.
        host: address of the SuperLink.
        within: a command that each part's command is appended to, by part; to place it elsewhere.
    """

    def __init__(
        self,
        folder: Path,
        nodes: Sequence[str],
        host: str = "127.0.0.1",
        within: dict[str, list[str]] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.address = f"{host}:{_free_port()}"
        self.processes: dict[str, Process] = {}
        self._configs = {f"node-{i}": config for i, config in enumerate(nodes)}
        self._within = within or {}
        make_certificates(self.folder / "keys", [host], list(self._configs))

    def __enter__(self) -> Self:
        try:
            self.start_superlink()
            for name in self._configs:
                self.register(name)
                self.start_node(name)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start_superlink(self) -> None:
        """Start the SuperLink, on what its database holds, and wait until it answers."""
        host, _, port = self.address.rpartition(":")
        keys = self.folder / "keys"
        process = self._start(
            "superlink",
            *("--host", host, "--port", port, "--ssl-ca-certfile", f"{keys}/ca.crt"),
            *("--ssl-certfile", f"{keys}/server.crt", "--ssl-keyfile", f"{keys}/server.key"),
            *("--database", f"{self.folder}/superlink.db", "--enable-supernode-auth"),
            "--disable-runtime-dependency-installation",
        )
        end = time.monotonic() + START_SECONDS
        probe = [*self._within.get("superlink", []), sys.executable, "-c", PROBE, host, port]
        while subprocess.run(probe, check=False, capture_output=True).returncode:
            if process.poll() is not None or time.monotonic() > end:
                raise FedmemError(f"The SuperLink did not start: see {self.log('superlink')}.")
            time.sleep(0.2)

    def register(self, name: str) -> None:
        """Register a node's public key at the SuperLink."""
        key = f"{self.folder}/keys/{name}.pub"
        with self._flwr("supernode", "register", key, CONNECTION) as registering:
            output, _ = registering.communicate()
        if registering.returncode:
            raise FedmemError(f"The SuperLink did not take the key of {name}: {output}")

    def start_node(self, name: str, key: str | None = None) -> Process:
        """Start a SuperNode, with its own key by default."""
        keys, state = self.folder / "keys", self.folder / name
        return self._start(
            name,
            *("--superlink", self.address, "--root-certificates", f"{keys}/ca.crt"),
            *("--auth-supernode-private-key", f"{keys}/{key or name}.key"),
            *("--node-config", f'{self._configs[name]} state-dir="{state}"'),
        )

    def run(self, *overrides: str) -> Process:
        """Start a run of the stages, with Hydra's overrides; its log comes out as it is written."""
        quoted = " ".join(f'"{each}"' if " " in each else each for each in overrides)
        config = f"overrides='{quoted}'"
        return self._flwr("run", str(PROJECT), CONNECTION, "--stream", "--run-config", config)

    def log(self, name: str) -> Path:
        """What a part has written."""
        return self.folder / f"{name}.log"

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End a part by a signal, and wait for it and what it started."""
        process = self.processes.pop(name)
        process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        _kill_started_in(self.folder / f"flwr-{name}")
        process.wait()

    def close(self) -> None:
        """End all parts, and whatever of theirs is left; a second Ctrl-C has to wait for it."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            for process in self.processes.values():
                process.terminate()
            for name in list(self.processes):
                self.stop(name)
            _kill_started_in(self.folder)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _start(self, name: str, *options: str) -> Process:
        """Start a part by its command, with its log."""
        command = "fedmem.superlink" if name == "superlink" else "fedmem.supernode"
        with self.log(name).open("a", encoding="utf-8") as log:
            self.processes[name] = self._open(
                name,
                [*self._within.get(name, []), sys.executable, "-m", command, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                start_new_session=True,  # Ctrl-C comes to us, and we end them in order
            )
        return self.processes[name]

    def _flwr(self, *arguments: str) -> Process:
        """Start a command of Flower's, whose output is read here."""
        home = self.folder / "flwr-flwr"
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "{CONNECTION}"\n[superlink.{CONNECTION}]\n'
            f'address = "{self.address}"\nroot-certificates = "{self.folder}/keys/ca.crt"\n',
            encoding="utf-8",
        )
        command = [*self._within.get("superlink", []), str(BINARIES / "flwr"), *arguments]
        return self._open("flwr", command, stdout=subprocess.PIPE)

    def _open(self, name: str, command: list[str], **options: Any) -> Process:
        """Start a process in the folder, with a Flower home of its own."""
        own = environment(
            FLWR_HOME=str(self.folder / f"flwr-{name}"),
            FLWR_TELEMETRY_ENABLED="0",
            PATH=f"{BINARIES}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        )
        options |= {"cwd": self.folder, "env": own, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, encoding="utf-8", errors="replace", **options)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _started_in(folder: Path) -> Iterator[int]:
    """Ids of the processes whose Flower home is this folder or below it."""
    mark = re.compile(rb"FLWR_HOME=%b[/\0]" % re.escape(os.fsencode(folder)))
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.search((entry / "environ").read_bytes()):
                yield int(entry.name)


def _kill_started_in(folder: Path) -> None:
    """End them at once, and see that they are gone."""
    while left := list(_started_in(folder)):
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
