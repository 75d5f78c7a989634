"""Installed, fedmem needs nothing but what it asks for, and finds its own whatever lies around."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.names import ROOT
from tests.helpers.small_world import SMALL, write_small_data

NAMES = ("clients", "conf", "strategies", "tests")


def folder_with_such_names(folder: Path) -> Path:
    """A user's folder in which other things are called as our folders are."""
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise SystemExit('not ours')\n")
        (folder / f"{name}.py").write_text("raise SystemExit('not ours')\n")
    return folder


def run(folder: Path, *command: str, **environment: str) -> str:
    """What a command prints in a folder."""
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**bare, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_what_has_the_names_of_our_folders_is_not_taken_for_them(tmp_path: Path) -> None:
    folder = folder_with_such_names(tmp_path / "own")
    program = (
        "import fedmem.simulate, fedmem.strategies, fedmem.clients; "
        "from fedmem.runs.configuration import choices; print(*choices())"
    )
    groups = run(folder, sys.executable, "-c", program, PYTHONPATH=str(ROOT)).split()
    assert groups == sorted(each.name for each in (ROOT / "conf").iterdir() if each.is_dir())


@pytest.mark.slow
def test_a_wheel_without_extras_runs_a_round_in_a_folder_of_ones_own(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("fedmem", *NAMES[:3]):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    run(tmp_path, sys.executable, "-m", "venv", "env")
    programs = tmp_path / "env" / "bin"
    pip = (str(programs / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(source, *pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), ".")
    (wheel,) = tmp_path.glob("*.whl")
    run(tmp_path, *pip, "install", "--constraint", str(ROOT / "constraints.txt"), str(wheel))
    folder = folder_with_such_names(tmp_path / "own")
    write_small_data(folder / "data")
    ours = [
        *SMALL,
        "stage=pretrain_sasrec",
        "federation.rounds=1",
        "federation.fraction=1",
        "data.dir=data",
    ]
    python = str(programs / "python")
    output = run(folder, python, "-m", "fedmem.simulate", *ours, "hydra.run.dir=made")
    assert output.splitlines()[-1] == "run: made"
    assert "problem" not in run(folder, python, "-m", "fedmem.doctor", *ours)
    assert "problem" not in run(folder, python, "-m", "fedmem.doctor", "--run", "made")
    assert "report.html" in run(folder, python, "-m", "fedmem.report", "made")
    (folder / "fedmem.py").write_text("raise SystemExit('not ours')\n")
    again = run(folder, str(programs / "fedmem"), "simulate", *ours, "hydra.run.dir=again")
    assert again.splitlines()[-1] == "run: again"
