"""A ClientApp that stays loaded between messages, in a process of its own."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from fedmem.core.errors import FedmemError
from fedmem.messaging.flower_internals import ErrorCode, load_client_app


class WarmApp:
    """A process that has loaded the ClientApp of an unpacked bundle and answers its messages.

    It runs the bundle's code, not what else is installed here. Should it die, only the message that
    it worked on is lost, and the next one starts it again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: multiprocessing.process.BaseProcess | None = None
        self._channel: Connection

    def answer(self, message: Message, context: Context) -> tuple[Message, RecordDict]:
        """The app's reply, and the state that it leaves in the context."""
        if self._process is None or not self._process.is_alive():
            self._start()
        assert self._process is not None
        try:
            self._channel.send((message, context))
            reply, state = self._channel.recv()
        except (EOFError, OSError):
            self._process.join()
            reason = f"The ClientApp's process ended with code {self._process.exitcode}."
            return _error_reply(message, ErrorCode.CLIENT_APP_CRASHED, reason), context.state
        return reply, state

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._channel, theirs = spawn.Pipe()
        given = (theirs, self._folder)
        self._process = spawn.Process(target=_answer_messages, args=given, daemon=True)
        sys.path.insert(0, str(self._folder))  # the new process takes it over, and its fedmem first
        try:
            self._process.start()
        finally:
            sys.path.remove(str(self._folder))
        theirs.close()


def _answer_messages(channel: Connection, folder: Path) -> None:
    """What the warm process does until its SuperNode is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the SuperNode
    app: ClientApp | None = None
    while True:
        try:
            message, context = channel.recv()
        except EOFError:
            return
        try:
            app = app or load_client_app(folder)
            reply = app(message, context)
        except FedmemError as error:
            reply = _error_reply(message, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(error))
        except Exception as error:
            logging.getLogger("flwr").exception("The ClientApp raised an exception")
            reason = f"{type(error).__name__}: {error}"
            reply = _error_reply(message, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason)
        channel.send((reply, context.state))


def _error_reply(message: Message, code: int, reason: str) -> Message:
    return Message(Error(code=code, reason=reason), reply_to=message)
