"""The one exception that a user is meant to read, and how commands end on it."""

from __future__ import annotations

import difflib
import errno
import signal
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from fedmem.core.signals import ended_by, exit_code

MISTAKE_EXIT_CODE = 2


DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What a disk that is full, or that we may not write to, answers."""


class FedmemError(Exception):
    """A mistake that the user can mend: the message says what is wrong, where, and what to do."""


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that was probably meant; None where nothing is near.

    A key that lacks its section, or stands in another one, is known by its last part.
    """
    known, last = list(choices), word.rpartition(".")[2]
    if "." in word and (slip := difflib.get_close_matches(word, known, 1, cutoff=0.92)):
        return slip[0]  # of a letter or two in the whole key
    same = [choice for choice in known if choice.rpartition(".")[2] == last]
    if same:
        # So like the word that others, which end in the same part, are passed over.
        near = difflib.get_close_matches(word, same, 1, cutoff=0.8) if "." in word else []
        depth = min(choice.count(".") for choice in same)
        return " or ".join(near or [choice for choice in same if choice.count(".") == depth])
    close = difflib.get_close_matches(word, known, n=1)
    ends = {choice.rpartition(".")[2]: choice for choice in known}
    close = close or [ends[end] for end in difflib.get_close_matches(last, ends, 1, cutoff=0.7)]
    return close[0] if close else None


def one_of(word: str, choices: Collection[str]) -> str:
    """What to take in place of a word that is none of the choices: the nearest, and all."""
    meant = nearest(word, choices)
    hint = f"did you mean {meant}? There are" if meant else "choose one of"
    return f"{hint} {', '.join(choices)}"


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line without a full stop."""
    return (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")


@contextmanager
def readable_exit(interrupted: str = "") -> Iterator[None]:
    """End the command with one or two lines for a user's mistake or Ctrl-C, never a traceback.

    So too where the disk does not take what it writes. The signals of `fedmem.core.signals` are as
    Ctrl-C, each with its own exit code; `interrupted` follows, where the interrupt has none
    of its own.
    """
    with ended_by() as signals:
        try:
            with readable_file_errors(DISK):
                yield
        except FedmemError as error:
            print(f"fedmem: {error}", file=sys.stderr)
            sys.exit(MISTAKE_EXIT_CODE)
        except KeyboardInterrupt as error:
            print(f"fedmem: interrupted. {str(error) or interrupted}".rstrip(), file=sys.stderr)
            sys.exit(exit_code(signals[0] if signals else signal.SIGINT))


@contextmanager
def readable_file_errors(only: Collection[int] = (), after: str = "") -> Iterator[None]:
    """Make errors of files and disks readable: all of them, or `only` those of these numbers.

    Others pass as they are. What comes `after` ends the message.
    """
    try:
        yield
    except OSError as error:
        if only and error.errno not in only:
            raise
        message = f"{error.filename or 'A file'}: {error.strerror or error}. {after}"
        raise FedmemError(message.rstrip()) from error


@contextmanager
def readable_disk_errors() -> Iterator[None]:
    """The same for a run, whose disk is full or cannot be written, and which can go on."""
    with readable_file_errors(DISK, "Nothing is lost."):
        yield
