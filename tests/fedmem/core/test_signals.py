"""What ends a command: Ctrl-C, a scheduler's SIGTERM, a closed terminal."""

from __future__ import annotations

import signal
import threading

import pytest

from fedmem.core.errors import readable_exit
from fedmem.core.signals import ENDING, HeldBack


@pytest.mark.parametrize("number", ENDING)
def test_each_ends_a_command_with_a_line_and_its_own_code(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, readable_exit("Go on with: this."):
        signal.raise_signal(number)
    assert ended.value.code == 128 + number
    assert capsys.readouterr().err == "fedmem: interrupted. Go on with: this.\n"
    assert signal.getsignal(number) == before


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with readable_exit():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def work_until_stopped(stop: threading.Event) -> None:
    with readable_exit():
        with HeldBack(stop) as held:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray does
            held.take_again()
            signal.raise_signal(signal.SIGTERM)
        held.deliver()


def test_one_that_is_held_back_has_its_effect_after_the_work() -> None:
    stop = threading.Event()
    with pytest.raises(SystemExit) as ended:
        work_until_stopped(stop)
    assert stop.is_set()
    assert ended.value.code == 143
