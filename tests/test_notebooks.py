"""Notebooks run from top to bottom, and are committed without outputs, a source line an entry."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from fedmem.core.data import write_id_files
from fedmem.core.settings import Settings
from fedmem.federation.server_app import Run
from tests.helpers.in_process_grid import InProcessGrid
from tests.helpers.real_data import ML_100K, needs_ml_100k

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place that looks like the project's, and is not written to by anything else."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "ml-100k").symlink_to(ML_100K)
    monkeypatch.chdir(tmp_path / "notebooks")
    return tmp_path


def run(name: str) -> dict[str, Any]:
    """What a notebook has come to when all its cells have run; each figure has something on it."""
    scope: dict[str, Any] = {}
    with mpl.rc_context():
        mpl.use("Agg")
        for cell in json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), scope)
        figures = [plt.figure(number) for number in plt.get_fignums()]
        assert figures
        assert all(axes.has_data() for figure in figures for axes in figure.axes)
        plt.close("all")
    return scope


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_notebook_has_no_outputs_and_differs_by_lines(path: Path) -> None:
    text = path.read_text()
    notebook = json.loads(text)
    assert text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    assert notebook["metadata"].keys() == {"kernelspec"}
    for cell in notebook["cells"]:
        assert cell["metadata"] == {}
        assert all(line.count("\n") == line.endswith("\n") for line in cell["source"])
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_what_a_notebook_imports_is_there(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            nodes = ast.parse("".join(cell["source"])).body
            imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
            exec(compile(ast.Module(imports, []), path.name, "exec"), {})


@needs_ml_100k
@pytest.mark.slow
@pytest.mark.usefixtures("root")
def test_the_memory_of_a_user() -> None:
    scope = run("memory_of_a_user")
    kept = [item for item, _, end in scope["spans_of_six"] if end > len(scope["history"])]
    assert len(kept) == 6 < len(scope["spans"])
    starts = [[start for _, start, _ in scope[name]] for name in ("spans", "spans_of_six")]
    assert starts[0] == starts[1] == (1 + np.flatnonzero(scope["novelty"] >= 0.81)).tolist()
    assert set(scope["closeness"]["tier"]) >= {"short", "long"}


@needs_ml_100k
@pytest.mark.slow
@pytest.mark.usefixtures("root")
def test_the_three_stages() -> None:
    scope = run("three_stages")
    assert scope["by_part"].loc["align_projectors"].sum() == pytest.approx(139_714 * 4e-6)
    learned = scope["curve_1"]["sampled/HR@10"]
    assert learned.iloc[-1] > 3 * learned.iloc[0]
    assert scope["curve_2"]["content/HR@10"].iloc[-1] > 3 * scope["chance"]


@pytest.mark.slow
def test_the_sweep_of_clients(make_settings: Callable[..., Settings], root: Path) -> None:
    for clients, seed in ((8, 0), (8, 1), (24, 0), (24, 1)):
        settings = make_settings(f"federation.num_clients={clients}", f"seed={seed}")
        folder = root / "runs" / "clients" / f"{clients}-{seed}"
        Run(replace(settings, output_dir=str(folder)), [], keep_ranks=True)(InProcessGrid(2))
        write_id_files(folder, settings)
    scope = run("client_sweep")
    assert scope["counts"] == [8, 24]
    assert scope["same"].shape == (2, 2)
    assert scope["same"][:, 0].mean() == pytest.approx(scope["everybody"][8])
    gain = scope["same"][:, 1].mean() - scope["same"][:, 0].mean()
    assert -1 <= gain <= 1
