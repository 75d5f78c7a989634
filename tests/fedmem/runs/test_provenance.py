"""What a run was made with."""

from __future__ import annotations

import subprocess
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest

import fedmem
from fedmem.runs import provenance
from fedmem.runs.provenance import MadeWith, made_with


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_that_of_the_checkout_which_the_code_is_a_part_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "fedmem" / "made_with.py"
    code.parent.mkdir()
    code.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(code))
    commit = provenance._commit.__wrapped__
    assert commit() is None
    git(tmp_path, "init")
    (tmp_path / "other").write_text("")
    git(tmp_path, "add", "other")
    git(tmp_path, "commit", "-m", "a repository that the code is only installed in")
    assert commit() is None
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "the code")
    assert commit() == git(tmp_path, "rev-parse", "--short", "HEAD")
    git(tmp_path, "tag", "v1")
    code.write_text("changed")
    assert commit() == "v1-dirty"


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance._commit.__wrapped__() is None
    assert provenance._gpu.__wrapped__() is None


def test_gpus_are_named_as_the_driver_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho NVIDIA A\necho NVIDIA B\necho NVIDIA A\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance._gpu.__wrapped__() == "2 × NVIDIA A, NVIDIA B"


def test_it_is_told_in_a_line() -> None:
    found = made_with("cpu")
    assert set(found.packages) == {"torch", "flwr", "ray", "numpy"}
    assert found.gpu is None
    assert found.cores > 0
    assert MadeWith(**asdict(found)) == found
    made = MadeWith("1.2", "v1.2-dirty", "3.11.7", {"torch": "2"}, "CPU", 1, "GPU")
    assert str(made) == "fedmem 1.2 (v1.2-dirty), Python 3.11.7, torch 2, on CPU (1 core) and GPU"


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert project["version"] == fedmem.__version__
