"""The one exception that a user is meant to read, and how commands end on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

MISTAKE_EXIT_CODE = 2
INTERRUPTED_EXIT_CODE = 130


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
