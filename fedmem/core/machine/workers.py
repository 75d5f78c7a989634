"""Workers of a run on this machine: processes that are forked from one which imports once for all.

Imports take seconds, of which every worker of its own would need as many. So the process that they
are forked from can be started before it is known how many there will be, see `import_ahead`.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from fedmem.core.errors import FedmemError
from fedmem.core.machine.children import environment, search_path
from fedmem.core.machine.handover import receive, send
from fedmem.core.machine.ray_trouble import ROOM, trouble
from fedmem.core.machine.worker_process import FORKED, MOST_BYTES

PROGRAM = "fedmem.core.machine.worker_process"
ALLOCATOR = "GLIBC_TUNABLES"
HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""Asks the C library to ask Linux for pages of 2 MB: what a micro-batch leaves is freed and taken
anew by the next, ten thousand pages of 4 KB a round, each of which the system would clear."""

RESTARTS = 3
"""Times that a worker is made again that has died, before the run ends."""


class CallError(Exception):
    """What a worker was asked to do has failed; the text says how."""


class Workers:
    """Processes that call one function for us, each with one call at a time.

    Args:
        function: `module:function`; what it takes and returns can be pickled. The module is
            imported from now on, while we go on, and `prepare` of the module, if it has that, is
            called once for all: what it leaves in memory every worker has.

    Raises:
        FedmemError: the system refuses another process.
    """

    def __init__(self, function: str) -> None:
        try:
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - until `close`
            self._control, theirs = socket.socketpair()
            with theirs:
                self._parent = subprocess.Popen(
                    [sys.executable, "-m", PROGRAM, str(theirs.fileno()), function],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._errors,
                    # It would import what lies in the folder that we are in.
                    env=environment(
                        PYTHONPATH=search_path(),
                        PYTHONSAFEPATH="1",
                        **{ALLOCATOR: os.environ.get(ALLOCATOR, HUGE_PAGES)},
                    ),
                    cwd="/",
                )
        except OSError as error:
            raise trouble(error) from error
        self._variables: list[Mapping[str, str]] = []
        self._connections: list[Connection] = []
        self._died: list[int] = []
        self._idle: set[int] = set()
        self._changed, self._forking = threading.Condition(), threading.Lock()

    def fork(self, variables: Sequence[Mapping[str, str]]) -> None:
        """Make a worker for each of these sets of environment variables; wait until they are there.

        Raises:
            FedmemError: they do not start; the message says why and what helps.
        """
        for each in variables:
            self._connections.append(self._forked(each))
        self._variables = list(variables)
        self._died = [0] * len(variables)
        self._idle = set(range(len(variables)))

    def __len__(self) -> int:
        return len(self._connections)

    def call(self, preferred: int, *arguments: object) -> Any:
        """What the function returns for these arguments; where all workers are busy, we wait.

        A worker that dies is made again, and asked again.

        Args:
            preferred: the worker to ask, if it is idle: what it keeps from call to call is there.
            arguments: of the function.

        Raises:
            CallError: the function has raised an error, or workers died too often.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._idle)
            worker = preferred if preferred in self._idle else min(self._idle)
            self._idle.remove(worker)
        try:
            answer, error = self._asked(worker, arguments)
        finally:
            with self._changed:
                self._idle.add(worker)
                self._changed.notify()
        if error is not None:
            raise CallError(error)
        return answer

    def close(self) -> None:
        """End all processes, whatever they are doing."""
        self._control.close()
        if not self._connections:  # it may be importing still
            self._parent.kill()
        self._parent.wait()
        for each in self._connections:
            each.close()
        self._errors.close()

    def _asked(self, worker: int, arguments: tuple[object, ...]) -> Any:
        """A worker's answer, and the text of its error; of its successor's where it has died."""
        while True:
            try:
                send(self._connections[worker], arguments)
                return receive(self._connections[worker])
            except (EOFError, OSError):
                self._connections[worker].close()
            self._died[worker] += 1
            if self._died[worker] > RESTARTS:
                return None, f"worker {worker} died {self._died[worker]} times. {ROOM}"
            try:
                self._connections[worker] = self._forked(self._variables[worker])
            except FedmemError as error:
                return None, str(error)

    def _forked(self, variables: Mapping[str, str]) -> Connection:
        """Our end of the connection with a new worker."""
        ours, theirs = Pipe()
        said = b""
        with theirs, self._forking, contextlib.suppress(OSError):
            text = json.dumps(dict(variables)).encode()
            socket.send_fds(self._control, [text], [theirs.fileno()])
            said = self._control.recv(MOST_BYTES)
        if said != FORKED:
            ours.close()
            reason = said.decode() or self._last_line() or "a worker ends without a word"
            raise trouble(RuntimeError(reason))
        return ours

    def _last_line(self) -> str:
        """The end of what the processes wrote to their standard error."""
        descriptor = self._errors.fileno()
        start = max(0, os.fstat(descriptor).st_size - MOST_BYTES)
        text = os.pread(descriptor, MOST_BYTES, start).decode(errors="replace")
        return (text.strip().splitlines() or [""])[-1]


_ahead: dict[str, Workers] = {}


def import_ahead(function: str) -> None:
    """Start what the next `workers_of` this function needs: it imports, while we go on."""
    with contextlib.suppress(FedmemError):  # which comes again when they are needed
        _ahead[function] = Workers(function)
        atexit.register(leave_ahead)


def leave_ahead() -> None:
    """End what was started ahead and is not needed."""
    while _ahead:
        _ahead.popitem()[1].close()


@contextlib.contextmanager
def workers_of(function: str) -> Iterator[Workers]:
    """Workers that call a function, see `Workers`; they end with the block."""
    workers = _ahead.pop(function) if function in _ahead else Workers(function)
    try:
        yield workers
    finally:
        workers.close()
