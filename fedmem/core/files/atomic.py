"""Files that are whole or not there: written aside, flushed, and put in place."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends without an error.

    By then it is on the disk, so that not even a power cut leaves a part of it under the name.

    Raises:
        OSError: by the name of `path`; what was there before stays.
    """
    # By machine and process: another one may be writing the same file into a shared folder.
    beside = f"{path.name}.{os.uname().nodename}"
    partial = path.with_name(f"{beside}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{glob.escape(beside)}.*.partial"):
            if _is_of_the_dead(left):
                left.unlink(missing_ok=True)
        yield partial
        flush(partial)
        os.replace(partial, path)
        flush(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # where there can be none
            partial.unlink()


def _is_of_the_dead(partial: Path) -> bool:
    """Whether the process that wrote this has ended before its file was in place."""
    process = partial.suffixes[-2][1:]
    return process.isdecimal() and not psutil.pid_exists(int(process))


def flush(path: Path) -> None:
    """Have the disk hold what was written to a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
