"""Notebooks run from top to bottom, and are committed without outputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedmem.settings import Settings
from tests.in_process_grid import run_in_process

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_runs_on_a_run_from_disk(
    path: Path,
    make_settings: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "runs" / "tiny" / "now"
    run_in_process(replace(make_settings(), output_dir=str(folder)))
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]), scope)
    assert len(scope["tests"]) == 3  # type: ignore[arg-type]
