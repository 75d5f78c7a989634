r"""Run a SuperNode that keeps its ClientApp loaded.

    python -m fedmem.supernode --superlink 10.0.0.1:8000 \
        --root-certificates ca.crt --auth-supernode-private-key shop.key \
        --node-config 'data="/srv/shop" threads=2'

Flower's own `flower-supernode` starts a Python for every message, which imports torch for some six
seconds, and looks for messages every three. This one speaks to the SuperLink through the same
connection (TLS, key, heartbeats, retries), takes the same options, and hands the messages of a run
to one process, which loads the app of the run's bundle once.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import Context, Message, RecordDict

from fedmem.core.commands import command_parser
from fedmem.core.errors import FedmemError, first_line, readable_exit
from fedmem.core.files.home import at_home
from fedmem.federation.deployment.warm_app import WarmApp
from fedmem.federation.node_config import read_node_config, require_whole
from fedmem.messaging.flower_internals import (
    Fab,
    ObjectTree,
    Run,
    RunNotRunningException,
    connect_supernode,
    get_all_nested_objects,
    get_object_tree,
    install_bundle,
    no_object_id_recompute,
    pull_and_inflate_object_from_tree,
    push_objects,
    run_config_of,
)
from fedmem.messaging.superlink_internals import HeldLooks, goes_whole, is_whole, tree_of_whole

SHORTEST_WAIT, LONGEST_WAIT = 0.05, 3.0
IDLE_SHARE = 0.05
"""Seconds between two looks for messages: this share of the time since the last message."""

log = logging.getLogger("flwr").info


class Reachability:
    """Says that the SuperLink does not answer, and why: once, until it has answered or it is
    another reason.

    Args:
        superlink: host:port.
        scheme: http or https, for which a proxy may be set.
    """

    def __init__(self, superlink: str, scheme: str) -> None:
        self._superlink = superlink
        self._scheme = scheme
        self._said: str | None = None

    def __call__(self, error: Exception | None) -> None:
        """A call was not answered, for this reason; None: one was."""
        reason = None if error is None else re.sub(r"\[Errno -?\d+\] ", "", first_line(error))
        if reason and reason != self._said:
            logging.getLogger("flwr").warning("%s", self._words(reason))
        self._said = reason

    def _words(self, reason: str) -> str:
        host = self._superlink.rpartition(":")[0]
        proxy = getproxies().get(self._scheme) or getproxies().get("all")
        through = ""
        if proxy and not proxy_bypass(host):
            through = f" It is called through the proxy {proxy}: no_proxy={host} does without."
        return (
            f"{self._superlink} does not answer: {reason}. See that --superlink has the right host "
            f"and port, and that it runs there; it is tried until it answers.{through}"
        )


@dataclass
class SuperNode:
    """Takes messages from the SuperLink, one at a time, and sends back the app's replies.

    Attributes:
        node_config: what the app's context says of this node.
        node_id: as the SuperLink knows this node.
        receive, send, get_run, get_fab, pull_object, push_object, confirm: Flower's connection.
        looks: for messages.
    """

    node_config: dict[str, bool | int | float | str]
    looks: HeldLooks
    node_id: int
    receive: Callable[[], tuple[Message, ObjectTree] | None]
    send: Callable[[Message, ObjectTree, float], tuple[set[str], str]]
    get_run: Callable[[int], Run]
    get_fab: Callable[[str, int], Fab]
    pull_object: Callable[[int, str], bytes]
    push_object: Callable[[int, str, str, bytes], None]
    confirm: Callable[[int, str], None]
    _apps: dict[str, WarmApp] = field(default_factory=dict)
    _runs: dict[int, tuple[Run, Context]] = field(default_factory=dict)

    def serve(self) -> None:
        """Answer messages until a signal ends the process."""
        last = time.monotonic()
        try:
            while True:
                try:
                    if self._answer_next():
                        last = time.monotonic()
                        continue
                except RunNotRunningException:
                    log("The run has ended; its message is dropped.")
                except httpx.HTTPError as error:
                    logging.getLogger("flwr").warning("The SuperLink refused a call: %s", error)
                idle = time.monotonic() - last
                shortest = 0.0 if self.looks.held else SHORTEST_WAIT
                time.sleep(min(max(IDLE_SHARE * idle, shortest), LONGEST_WAIT))
        finally:
            for app in self._apps.values():
                app.close()

    def _answer_next(self) -> bool:
        """Answer one message, if there is one."""
        received = self.receive()
        if received is None:
            return False
        received_at = time.monotonic()
        head, tree = received
        run_id, kind = head.metadata.run_id, head.metadata.message_type
        app, context = self._app_of(run_id)
        with ThreadPoolExecutor(1) as aside:  # while the app works, over a link that may be slow
            confirmed: list[Future[None]] = []
            message = head
            if not is_whole(head):
                message = self._parts_of(
                    tree,
                    run_id,
                    lambda part: confirmed.append(aside.submit(self.confirm, run_id, part)),
                )
            times = [received_at, time.monotonic()]
            reply, context.state = app.answer(message, context)
        for each in confirmed:
            each.result()
        times.append(time.monotonic())
        self._send(run_id, reply, times[2] - times[1])
        times.append(time.monotonic())
        spent = (after - before for before, after in itertools.pairwise(times))
        log("%s: %.2f s to receive, %.2f to answer, %.2f to send", kind, *spent)
        return True

    def _parts_of(self, tree: ObjectTree, run_id: int, arrived: Callable[[str], None]) -> Message:
        """A message that goes in parts; `arrived` is called once they are here."""
        message: Message = pull_and_inflate_object_from_tree(
            tree,
            lambda object_id: self.pull_object(run_id, object_id),
            arrived,
            return_type=Message,
            # While the SuperLink is still being given its parts.
            initial_backoff=SHORTEST_WAIT,
            backoff_cap=4 * SHORTEST_WAIT,
        )
        message.metadata.__dict__["_message_id"] = tree.object_id
        return message

    def _send(self, run_id: int, reply: Message, seconds: float) -> None:
        reply.metadata.__dict__["_message_id"] = reply.object_id
        if goes_whole(reply):
            self.send(reply, tree_of_whole(reply), seconds)
            return
        with no_object_id_recompute():
            wanted, session = self.send(reply, get_object_tree(reply), seconds)
            push_objects(
                get_all_nested_objects(reply),
                lambda object_id, content: self.push_object(run_id, session, object_id, content),
                object_ids_to_push=wanted,
            )

    def _app_of(self, run_id: int) -> tuple[WarmApp, Context]:
        """The app of a run's bundle, and the run's context at this node."""
        if run_id not in self._runs:
            run = self.get_run(run_id)
            fab = self.get_fab(run.fab_hash, run_id)
            if run.fab_hash not in self._apps:
                for app in self._apps.values():
                    app.close()
                folder = install_bundle(fab)
                self._apps = {run.fab_hash: WarmApp(folder)}
            context = Context(
                run_id=run_id,
                node_id=self.node_id,
                node_config=self.node_config,
                state=RecordDict(),
                run_config=run_config_of(fab, run),
                series_id=run.series_id,
            )
            self._runs = {run_id: (run, context)}
        run, context = self._runs[run_id]
        return self._apps[run.fab_hash], context


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("supernode", __doc__)
    parser.add_argument(
        "--superlink", metavar="HOST:PORT", required=True, help="where the SuperLink listens"
    )
    parser.add_argument(
        "--root-certificates", metavar="FILE", help="the authority that signed the SuperLink's"
    )
    parser.add_argument(
        "--auth-supernode-private-key", metavar="FILE", help="this node's key, in OpenSSH's form"
    )
    parser.add_argument("--insecure", action="store_true", help="no TLS: for trying things out")
    parser.add_argument(
        "--node-config",
        metavar="SETTINGS",
        default="",
        help="a TOML file, or settings as key=value: see docs/deployment.md",
    )
    return parser.parse_args(argv)


def _read(file: str) -> bytes:
    try:
        return Path(at_home(file)).read_bytes()
    except OSError as error:
        raise FedmemError(f"{file} cannot be read: {error.strerror}.") from error


def _load_key(file: str) -> tuple[ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey]:
    try:
        key = load_ssh_private_key(_read(file), None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise FedmemError(f"{file} is no private key in OpenSSH's form: {error}.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FedmemError(f"{file} is no elliptic-curve key: make one with fedmem.certificates.")
    return key, key.public_key()


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    arguments = _arguments(argv)
    with readable_exit():
        if arguments.insecure == bool(arguments.root_certificates):
            raise FedmemError("Give --root-certificates FILE, or --insecure to go without TLS.")
        key = arguments.auth_supernode_private_key
        certificates = _read(arguments.root_certificates) if arguments.root_certificates else None
        keys = _load_key(key) if key else None
        node_config = read_node_config(arguments.node_config)
        require_whole(node_config)  # without data of its own it would pass for a simulated one
        looks = HeldLooks()
        with connect_supernode(
            arguments.superlink,
            arguments.insecure,
            certificates,
            keys,
            Reachability(arguments.superlink, "http" if arguments.insecure else "https"),
            looks,
        ) as connection:
            log("SuperNode %s serves %s", connection[0], arguments.superlink)
            SuperNode(node_config, looks, *connection).serve()
        sys.exit(1)  # Flower has logged why the connection came to its end


if __name__ == "__main__":
    main()
