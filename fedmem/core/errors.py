"""The one exception that a user is meant to read, and how commands end on it."""

from __future__ import annotations

import errno
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager

MISTAKE_EXIT_CODE = 2
INTERRUPTED_EXIT_CODE = 130
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


class FedmemError(Exception):
    """A mistake that the user can mend: the message says what is wrong, where, and what to do."""


@contextmanager
def readable_exit(interrupted: str = "") -> Iterator[None]:
    """End the command with one or two lines for a user's mistake or Ctrl-C, never a traceback.

    Args:
        interrupted: said after Ctrl-C, where the interrupt brings no message of its own.
    """
    try:
        yield
    except FedmemError as error:
        print(f"fedmem: {error}", file=sys.stderr)
        sys.exit(MISTAKE_EXIT_CODE)
    except KeyboardInterrupt as error:
        print(f"fedmem: interrupted. {str(error) or interrupted}".rstrip(), file=sys.stderr)
        sys.exit(INTERRUPTED_EXIT_CODE)


@contextmanager
def readable_file_errors(only: Collection[int] = (), after: str = "") -> Iterator[None]:
    """Make an error of a file or a disk one that a user can read.

    Args:
        only: error numbers; others pass as they are. Empty: all are made readable.
        after: said after it.
    """
    try:
        yield
    except OSError as error:
        if only and error.errno not in only:
            raise
        told = f"{error.filename or 'A file'}: {error.strerror or error}. {after}"
        raise FedmemError(told.rstrip()) from error


@contextmanager
def readable_disk_errors() -> Iterator[None]:
    """The same for a run, whose disk is full or cannot be written, and which can go on."""
    with readable_file_errors(DISK_ERRORS, "Nothing is lost."):
        yield
