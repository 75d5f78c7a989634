"""Locks on folders, which vanish with the process that holds them, however it ends."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO


class InUseError(Exception):
    """Another process holds the lock; the message is what it says of itself."""


def lock_file(path: Path, about: str = "") -> IO[str]:
    """Lock a file, which is made where it is not there, until what is returned is closed.

    `about` is what another process learns that wants it too.

    Raises:
        InUseError: another process holds it.
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.seek(0)
        holder = lock.read()
        lock.close()
        raise InUseError(holder) from error
    lock.truncate(0)
    lock.write(about)
    lock.flush()
    return lock
