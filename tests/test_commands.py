"""The table of commands, what each says of itself, and how `fedmem NAME` runs them."""

from __future__ import annotations

import ast
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from fedmem.__main__ import COMMANDS, file_of, main
from fedmem.core.commands import summary
from fedmem.core.machine.workers import leave_ahead

ROOT = Path(__file__).parents[1]
NOT_FOR_USERS = ("__main__", "core.machine.ray_probe", "core.machine.worker_process")
NAMES = [name for names in COMMANDS.values() for name in names]
HEAVY = {"torch", "flwr", "ray", "pandas", "matplotlib"}
"""What takes seconds to import."""
OF_FLOWER = ["superlink", "supernode"]
"""Commands that are programs of Flower's, whose options are Flower's or whose types are."""
HELP_OF_EACH = """
import contextlib, io, sys
from fedmem.__main__ import main
for name in sys.argv[1:]:
    sys.argv[1:] = [name, "--help"] if name else []
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main()
    print(name, *sys.modules)
"""
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `fedmem ARGUMENTS…`, in this process."""
    monkeypatch.setattr(sys, "argv", ["fedmem", *arguments])
    monkeypatch.setattr(ssl.SSLContext, "sslobject_class", ssl.SSLContext.sslobject_class)
    try:
        main()
    except SystemExit as exit_:
        return int(exit_.code or 0)
    finally:
        leave_ahead()  # as the end of a process of its own does
    return 0


def is_command(file: Path) -> bool:
    """Whether a module runs something when it is started by its name."""
    return any(
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for node in ast.parse(file.read_text()).body
    )


def test_the_table_lists_every_command_and_only_what_exists(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert [line.split()[0] for line in lines if line.startswith("  ")] == NAMES
    there = {file for file in (ROOT / "fedmem").rglob("*.py") if is_command(file)}
    assert {file_of(name) for name in [*NAMES, *NOT_FOR_USERS]} == there


@pytest.mark.parametrize("name", NAMES)
def test_help_says_what_a_command_does_with_an_example(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(monkeypatch, name, "--help") == 0
    text = capsys.readouterr().out.partition("Start a Flower SuperLink")[0]
    assert f"    python -m fedmem.{name} " in text
    if name != "features":  # which has the help of its two parts
        assert f"{summary(file_of(name))}." in text
    if name != "superlink":  # whose options are Flower's
        assert max(map(len, text.splitlines())) <= 80


def test_help_imports_nothing_that_takes_long() -> None:
    names = ["", *sorted(set(NAMES) - set(OF_FLOWER)), *OF_FLOWER]
    ran = subprocess.run(
        [sys.executable, "-c", HELP_OF_EACH, *names], capture_output=True, text=True, check=True
    )
    lines = ran.stdout.splitlines()
    assert len(lines) == len(names)
    for name, line in zip(names, lines, strict=True):
        spared = HEAVY - {"flwr"} if name in OF_FLOWER else HEAVY
        assert not spared & set(line.split()), name


def test_a_command_is_run_as_by_its_own_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "simulate", "stage=alll") == 2
    assert "stage=alll is unknown: did you mean all?" in capsys.readouterr().err
    assert run(monkeypatch, "experiment", "--nonsense") == 2
    assert capsys.readouterr().err == (
        "fedmem: there is no option --nonsense. "
        "python -m fedmem.experiment --help lists the options.\n"
    )


def test_an_unknown_command_is_one_line_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "simulat") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fedmem: simulat is no command: did you mean simulate?")
