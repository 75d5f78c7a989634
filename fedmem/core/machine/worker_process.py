"""`python -m fedmem.core.machine.worker_process DESCRIPTOR MODULE:FUNCTION`: makes workers.

Imports the module once, calls its `prepare` if it has one, and then forks a worker for each line of
JSON, the worker's environment variables, that comes with one end of its connection through the
socket of this descriptor. When the socket is closed, workers and all end, whatever they are doing.
`fedmem.core.machine.workers` is the other side.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from fedmem.core.errors import FedmemError
from fedmem.core.machine.handover import receive, send
from fedmem.core.signals import ENDING

FORKED = b"forked"
"""What is answered where a worker was made; else it is why not."""
MOST_BYTES = 65536


def serve(connection: Connection, function: Callable[..., Any]) -> None:
    """Answer calls until nobody is left who could make one.

    An answer is what the function returns, with no error; or None, with the text of its error.
    """
    with contextlib.suppress(EOFError, OSError):
        while True:
            arguments = receive(connection)
            try:
                answer, error = function(*arguments), None
            except Exception as raised:  # noqa: BLE001 - whoever asked is to know
                answer, error = None, described(raised)
            send(connection, (answer, error))


def described(error: Exception) -> str:
    """An error in a line: as it was written for users, or with its kind and where it was raised."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None and isinstance(cause, Exception):
        causes.append(cause)
    for each in causes:
        if isinstance(each, FedmemError):
            return str(each)
    last = causes[-1]
    *_, frame = traceback.extract_tb(last.__traceback__)
    return f"{type(last).__name__}: {last} ({frame.filename}:{frame.lineno})"


def main() -> None:
    """The command; it ends when the other end of its socket is closed."""
    for number in ENDING:  # Ctrl-C goes to all processes of a terminal; it is not for us to end
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()
    control, made = socket.socket(fileno=int(sys.argv[1])), []
    where, _, name = sys.argv[2].partition(":")
    module = importlib.import_module(where)
    function = getattr(module, name)
    if hasattr(module, "prepare"):
        module.prepare()
    gc.collect()
    gc.freeze()  # what is shared stays shared
    # Newer Pythons warn of forks beside threads; those of the libraries that we import allow it.
    warnings.simplefilter("ignore", DeprecationWarning)
    while True:
        asked, ends, _, _ = socket.recv_fds(control, MOST_BYTES, 1)
        if not asked:
            break
        try:
            process = os.fork()
        except OSError as error:
            control.send(str(error).encode())
        else:
            if process == 0:
                control.close()
                os.environ.update(json.loads(asked))
                serve(Connection(ends[0]), function)
                os._exit(0)
            made.append(process)
            control.send(FORKED)
        os.close(ends[0])
    for process in made:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


if __name__ == "__main__":
    main()
