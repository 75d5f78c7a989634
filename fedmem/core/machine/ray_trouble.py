"""Why a simulation does not start, or breaks off: causes that are known, each with what helps."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator

from fedmem.core.errors import FedmemError, first_line

ROOM = "See that memory and processes are free, or ask for fewer simulation.workers."
CAUSES = (
    (
        r"AF_UNIX path",
        "The paths of Ray's sockets are too long, below {tmp}: set RAY_TMPDIR=/tmp, or another "
        "folder with a short path.",
    ),
    (
        r"Read-only file system|Permission denied",
        "Ray writes below {tmp}: set RAY_TMPDIR to a folder of your own with a short path.",
    ),
    (r"No space left|ENOSPC", "The disk of {tmp} or /dev/shm is full: free room there, or set "
     "RAY_TMPDIR to another folder with a short path."),
    (r"Too many open files|EMFILE", "Raise the limit: ulimit -n 65536."),
    (
        r"can't start new thread|Resource temporarily unavailable|pthread_create|fork",
        "Too many processes and threads: raise the limit (ulimit -u, or the container's pids "
        "limit), or ask for fewer simulation.workers.",
    ),
    (
        r"Name or service not known|gaierror|resolve|hostname",
        "This machine's own name has no address: add it to /etc/hosts.",
    ),
)  # fmt: skip
PROXY = (
    "A proxy is set ({proxy}), which Ray must not use for this machine: add its own address and "
    "127.0.0.1 to no_proxy, or unset {proxy}."
)
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy")


def trouble(error: BaseException) -> FedmemError:
    """What to say where workers or Ray did not start, or a simulation broke off with this error."""
    errors = list(_causes(error))
    text = "\n".join(f"{type(each).__name__}: {each}" for each in errors)
    advice = next((words for known, words in CAUSES if re.search(known, text)), None)
    proxy = next((name for name in PROXIES if os.environ.get(name)), None)
    if advice is None:
        advice = PROXY if proxy and re.search(r"timed out|connect|GCS", text, re.I) else ROOM
    place = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    return FedmemError(
        f"The simulation does not start, or broke off: {first_line(errors[-1])}.\n"
        + advice.format(tmp=place, proxy=proxy)
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it came of."""
    yield error
    if error.__cause__ is not None:
        yield from _causes(error.__cause__)
