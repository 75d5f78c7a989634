"""Where libraries keep things, for a user without a home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fedmem.core.machine import caches

ROOT = Path(__file__).parents[4]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    for variable in caches.USUAL:
        monkeypatch.setenv(variable, "")  # and what it is made stays here
    return folder


def test_nothing_changes_where_the_home_can_be_written(
    temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    caches.provide_caches()
    assert [os.environ[variable] for variable in caches.USUAL] == [""] * len(caches.USUAL)
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("home", ["a file", "unknown"])
def test_without_a_home_there_is_a_temporary_folder_of_ones_own(
    home: str, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    if home == "unknown":
        monkeypatch.setattr(caches, "_home", lambda: None)
    caches.provide_caches()
    (own,) = temporary.iterdir()
    assert own.stat().st_mode & 0o777 == 0o700
    for variable in caches.USUAL:
        assert Path(os.environ[variable]).parent == own


def test_a_folder_that_others_can_write_is_not_trusted(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = temporary / f"fedmem-{os.getuid()}"
    known.mkdir()
    known.chmod(0o777)
    monkeypatch.setattr(caches, "_home", lambda: None)
    caches.provide_caches()
    assert not Path(os.environ["NUMBA_CACHE_DIR"]).is_relative_to(known)


WITHOUT_RIGHTS = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
"""Before a command, so that root too may not write what is read-only."""


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() == 0 and not shutil.which("setpriv"), reason="root may do anything")
def test_read_only_code_compiles_without_a_home(tmp_path: Path) -> None:
    code, home = tmp_path / "code", tmp_path / "home"
    for folder in ("fedmem", "clients", "conf", "strategies"):
        shutil.copytree(
            ROOT / folder, code / folder, ignore=shutil.ignore_patterns("__pycache__", "*.pt")
        )
    home.mkdir()
    folders = [code, home, *(each for each in code.rglob("*") if each.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    kept = {k: v for k, v in os.environ.items() if k not in caches.USUAL}
    program = (
        "from fedmem.core.model.dropout import _drop; import numpy, matplotlib, flwr.common.config;"
        "x = numpy.ones(3, 'f4'); _drop(x, x.astype('u1'), 0, numpy.float32(2), x); print(x.sum())"
    )
    try:
        done = subprocess.run(
            [*(WITHOUT_RIGHTS if os.getuid() == 0 else ()), sys.executable, "-c", program],
            env={**kept, "HOME": str(home), "PYTHONPATH": str(code), "TMPDIR": str(tmp_path)},
            cwd=code,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert (done.stdout, done.stderr, done.returncode) == ("6.0\n", "", 0)
    assert list(tmp_path.glob("fedmem-*/numba_cache_dir/*/*.nbi"))
