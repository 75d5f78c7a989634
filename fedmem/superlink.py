r"""Run Flower's SuperLink, logging callers without TLS too.

    python -m fedmem.superlink --host 10.0.0.1 --port 8000 \
        --ssl-ca-certfile keys/ca.crt --ssl-certfile keys/server.crt \
        --ssl-keyfile keys/server.key --enable-supernode-auth

It takes the options of `flower-superlink`, which closes a connection whose handshake fails without
a word, so that whoever runs it cannot see why a node does not appear. And it holds calls for
messages until there are some. docs/deployment.md goes through it step by step.
"""

from __future__ import annotations

import logging
import os
import ssl
import sys
from pathlib import Path

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

from fedmem.core.commands import description
from fedmem.core.console import show_anything
from fedmem.core.errors import FedmemError, readable_exit
from fedmem.messaging.flower_internals import start_superlink

GO_ON = (
    "Started again with the same --database it knows its nodes, and a run that was under way goes "
    "on with run.resume=FOLDER."
)
NOT_TLS = ("HTTP_REQUEST", "WRONG_VERSION_NUMBER")
"""What OpenSSL calls bytes that begin no handshake."""


class WatchedHandshake(ssl.SSLObject):
    """A connection of the server whose handshake, where it fails, is a line in the log."""

    def do_handshake(self) -> None:
        """As of `ssl.SSLObject`."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise  # it goes on when more has come
        except ssl.SSLError as error:
            if self.server_side:
                _log(error)
            raise


def _log(error: ssl.SSLError) -> None:
    reason = error.reason or str(error)
    if reason in NOT_TLS:
        reason = "it does not speak TLS: a node needs --root-certificates in place of --insecure"
    logging.getLogger("flwr").warning("A caller was refused: %s.", reason)


def main() -> None:
    """The command; exits with 130 for Ctrl-C, 143 for SIGTERM."""
    show_anything()
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.stdout.write(f"{description(__doc__)}\n\n")  # before Flower's own list of options
    ssl.SSLContext.sslobject_class = WatchedHandshake
    # Flower starts the ServerApp by programs of this environment, which need not be on the PATH.
    programs = Path(sys.executable).parent
    os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    with readable_exit():
        try:
            start_superlink()
            raise KeyboardInterrupt(GO_ON)  # it has ended itself in order
        except ssl.SSLError as error:
            raise FedmemError(
                f"The SuperLink's certificate and key cannot be used: {error.reason or error}. "
                "Give it server.crt and server.key as python -m fedmem.certificates made them."
            ) from error


if __name__ == "__main__":
    main()
