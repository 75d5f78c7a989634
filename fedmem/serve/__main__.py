"""Serve a node's page and API, on the node itself.

    python -m fedmem.serve data=ml-1m data.dir=FOLDER

Give it the settings of the run that made the checkpoint. It listens on 127.0.0.1 and on nothing
else unless --host asks for it, together with a token. A checkpoint that a finished round replaces
is taken over while it runs. docs/serve.md describes the page.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
# Before torch: threads that wait for one another let others work, as what trains on this machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Products within compiled loops are too small for two threads, which would only spin.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from fedmem.core.commands import Parser, command_parser
from fedmem.core.console import say
from fedmem.core.errors import FedmemError, first_line, readable_exit
from fedmem.serve.guard import LOOPBACK, Access

TOKEN = "FEDMEM_TOKEN"
LEAST_TOKEN = 16
THREADS = 1
"""Of torch, unless `simulation.threads` says otherwise: one history is too little work to share."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; exits with 2 for a mistake that the user can mend."""
    with readable_exit("The page is closed."):
        run(arguments)


def run(arguments: Sequence[str] | None) -> None:
    """What the command does, until it is interrupted.

    Raises:
        FedmemError: there is no checkpoint or no data, or it would be open to others without a
            token.
        KeyboardInterrupt: Ctrl-C.
    """
    args = parser().parse_with_settings(arguments)
    import torch  # and all that takes long, which --help can do without
    import uvicorn

    from fedmem.features.table import find_titles, read_titles
    from fedmem.runs.configuration import compose_settings
    from fedmem.serve.app import make_app
    from fedmem.serve.starting import find_encoders, find_node, make_desk

    token = read_token(args.token_file)
    if args.host not in LOOPBACK and token is None:
        raise FedmemError(
            f"--host {args.host} opens the page to others: give a token too, with --token-file "
            f"FILE or the environment's {TOKEN}."
        )
    require_usable(args.certificate, args.key)
    place = listening(args.host, args.port)  # before what takes its time
    settings, residents, users, node = find_node(
        compose_settings(args.settings), args.node_config or ""
    )
    torch.set_num_threads(settings.simulation.threads or THREADS)
    encoding = settings.data.encoding
    titles = (
        read_titles(args.titles, encoding=encoding)
        if args.titles
        else find_titles(Path(settings.data.dir), encoding)
    )
    encoders = find_encoders(args.text_model, args.image_model)
    desk = make_desk(settings, residents, users, node, args.stage, args.run, titles, encoders)
    names = [*LOOPBACK, *args.name] if args.host in LOOPBACK else [*LOOPBACK, args.host, *args.name]
    app = make_app(desk, Access.at(names, args.port, token))
    where = f"[{args.host}]" if ":" in args.host else args.host
    say(
        f"{desk.engine.served.summary}\n"
        f"The page: http{'s' if args.certificate else ''}://{where}:{args.port}/   the API: /docs"
    )
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    logging.getLogger("fedmem.serve").setLevel(logging.INFO if args.log else logging.WARNING)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=args.host,
            port=args.port,
            access_log=False,  # it would name the paths, and so items of histories
            log_level="warning",
            server_header=False,
            ssl_certfile=args.certificate,
            ssl_keyfile=args.key,
        )
    )
    if args.open:
        threading.Timer(1, webbrowser.open, [f"http://127.0.0.1:{args.port}/"]).start()
    server.run(sockets=[place])
    raise KeyboardInterrupt


def listening(host: str, port: int) -> socket.socket:
    """A socket at an address.

    Raises:
        FedmemError: it cannot be had; another may be listening there.
    """
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else first_line(error)
        raise FedmemError(
            f"Port {port} of {host} cannot be listened on: {reason}. Give another with --port N."
        ) from error


def require_usable(certificate: Path | None, key: Path | None) -> None:
    """See that the files for TLS can be used, where they are given.

    Raises:
        FedmemError: they cannot, or there is a key alone.
    """
    if certificate is None:
        if key is not None:
            raise FedmemError(f"--key {key} belongs to a certificate: give --certificate FILE too.")
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        beside = f" with --key {key}" if key else ""
        raise FedmemError(
            f"--certificate {certificate}{beside} cannot be used: {first_line(error)}.\n"
            "Give a certificate and its key in PEM; python -m fedmem.certificates makes them."
        ) from error


def parser() -> Parser:
    """The command's options; whatever else stands on its line is settings of the run."""
    made = command_parser("serve", __doc__)
    made.add_settings()
    add = made.add_argument
    add("--host", default="127.0.0.1", help="address to listen on; default: %(default)s")
    add("--port", type=int, default=8642, metavar="N", help="default: %(default)s")
    add("--token-file", type=Path, metavar="FILE", help=f"holds the token; default: ${TOKEN}")
    add("--name", action="append", default=[], help="a further name that the node is called by")
    add("--certificate", type=Path, metavar="FILE", help="for TLS; with --key")
    add("--key", type=Path, metavar="FILE", help="of the certificate")
    add("--stage", help="whose checkpoint; default: the last that has one")
    add("--node-config", metavar="SETTINGS", help="that of the SuperNode: its users, its folders")
    add("--run", type=Path, metavar="FOLDER", help="the run that trained; default: it is found")
    add("--titles", type=Path, metavar="FILE", help="default: a usual name in data.dir")
    model = "encoder of new {}, that of the features"
    add("--text-model", metavar="NAME_OR_FOLDER", help=model.format("texts"))
    add("--image-model", metavar="NAME_OR_FOLDER", help=model.format("pictures"))
    add("--open", action="store_true", help="open it in this machine's browser")
    add("--log", action="store_true", help="a line for each request: its route, not its path")
    return made


def read_token(file: Path | None) -> str | None:
    """The token in a file or in the environment; None: there is none.

    Raises:
        FedmemError: the file cannot be read, or the token is too short.
    """
    try:
        token = file.read_text(encoding="utf-8").strip() if file else os.environ.get(TOKEN)
    except (OSError, UnicodeError) as error:
        raise FedmemError(f"--token-file {file} cannot be read: {error}.") from error
    if token is None:
        return None
    if len(token) < LEAST_TOKEN:
        raise FedmemError(
            f"A token needs {LEAST_TOKEN} letters: python -c 'import secrets; "
            "print(secrets.token_urlsafe())' makes one."
        )
    return token


if __name__ == "__main__":
    main()
