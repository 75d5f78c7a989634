"""What ends a command: Ctrl-C, a scheduler's SIGTERM, a closed terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fedmem.core.errors import readable_exit
from fedmem.core.signals import ENDING, HeldBack

ROOT = Path(__file__).parents[3]


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


def test_an_interrupt_among_the_imports_of_a_command_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "rich.py").write_text("raise KeyboardInterrupt")  # as Ctrl-C would, in its place
    command = [sys.executable, "-m", "fedmem.report", "runs"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.stderr == "fedmem: interrupted.\n"
    assert ended.returncode in (-signal.SIGINT, 128 + signal.SIGINT)


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
