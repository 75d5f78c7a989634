"""`python -m fedmem.superlink`: Flower's SuperLink, which also tells of callers without TLS.

It takes the options of `flower-superlink`. That one closes a connection whose handshake fails and
says nothing, so that whoever runs it cannot see why a node does not appear.
"""

from __future__ import annotations

import logging
import os
import ssl

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

from fedmem.core.errors import FedmemError, readable_exit
from fedmem.messaging.flower_internals import start_superlink

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
                _tell(error)
            raise


def _tell(error: ssl.SSLError) -> None:
    reason = error.reason or str(error)
    if reason in NOT_TLS:
        reason = "it does not speak TLS: a node needs --root-certificates in place of --insecure"
    logging.getLogger("flwr").warning("A caller was refused: %s.", reason)


def main() -> None:
    """The command."""
    ssl.SSLContext.sslobject_class = WatchedHandshake
    with readable_exit():
        try:
            start_superlink()
        except ssl.SSLError as error:
            raise FedmemError(
                f"The SuperLink's certificate and key cannot be used: {error.reason or error}. "
                "Give it server.crt and server.key as python -m fedmem.certificates made them."
            ) from error


if __name__ == "__main__":
    main()
