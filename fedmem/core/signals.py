"""Signals that end a command: what a scheduler or a closed terminal sends does what Ctrl-C does."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def exit_code(number: int) -> int:
    """That of a command which a signal has ended, as shells have it: 130 for Ctrl-C."""
    return 128 + number


def interrupted_in_a_line() -> None:
    """Let Ctrl-C end this process with a line even where nothing handles it, as during imports."""

    def report(kind: type[BaseException], *error_and_trace: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.stderr.write("fedmem: interrupted.\n")
        else:
            sys.__excepthook__(kind, *error_and_trace)

    sys.excepthook = report


@contextmanager
def ended_by() -> Iterator[list[int]]:
    """Let every signal of `ENDING` raise KeyboardInterrupt; the list has those that came."""
    came: list[int] = []

    def interrupt(number: int) -> None:
        came.append(number)
        raise KeyboardInterrupt

    with _Handled(interrupt):
        yield came


class _Handled:
    """Has signals of `ENDING` call a function while it is entered; what is ignored stays so.

    Only the main thread may say what signals do; elsewhere they stay as they are.
    """

    def __init__(self, call: Callable[[int], None]) -> None:
        self._call = call
        self._before: dict[int, Callable[[int, FrameType | None], object] | int] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                before = signal.getsignal(number)
                if before is not None and before != signal.SIG_IGN:
                    self._before[number] = before
        self.take_again()
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def take_again(self) -> None:
        """Handle them also where another library has said since what they do."""
        for number in self._before:
            signal.signal(number, lambda came, _: self._call(came))


class HeldBack(_Handled):
    """Lets the first signal set `stop`, and have its effect later; a second one ends us at once.

    For work that an exception in the main thread would leave hanging.
    """

    def __init__(self, stop: threading.Event) -> None:
        super().__init__(self._note)
        self._stop = stop
        self._came = signal.SIGINT

    def _note(self, number: int) -> None:
        if self._stop.is_set():
            os._exit(exit_code(number))
        self._came = signal.Signals(number)
        self._stop.set()

    def deliver(self) -> None:
        """Let it have its effect, when the block has ended.

        Raises:
            KeyboardInterrupt: unless the signal does something else here.
        """
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(self._came)
        raise KeyboardInterrupt
