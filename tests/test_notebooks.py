"""Notebooks run from top to bottom, and are committed without outputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmem.results import MetricsFile, write_results
from fedmem.server_app import Run
from fedmem.settings import Settings
from tests.in_process_grid import InProcessGrid

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_runs_on_a_run_from_disk(
    path: Path,
    make_settings: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = make_settings()
    folder = tmp_path / "runs" / "tiny" / "now"
    folder.mkdir(parents=True)
    with MetricsFile(folder / "metrics.jsonl") as metrics:
        results = Run(settings, [metrics])(InProcessGrid(settings.federation.nodes))
    write_results(folder / "results.json", settings, results)
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]), scope)
    assert len(scope["tests"]) == 3  # type: ignore[arg-type]
