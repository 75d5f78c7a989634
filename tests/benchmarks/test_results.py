"""The pages of results: tables come between their markers, and the text around them stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import results

from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.experiment.arms import load_experiment
from fedmem.federation.server_app import Run
from fedmem.report.runs import find_runs, read_runs
from fedmem.report.study import Study
from fedmem.report.tables import tables_of
from tests.helpers.in_process_grid import InProcessGrid


def test_tables_take_the_place_of_those_before_and_of_nothing_else() -> None:
    page = "by hand\n<!-- a -->\nold\n<!-- /a -->\n<!-- ab -->\n<!-- /ab -->\nby hand too\n"
    made = results.put(page, "a", r"new \1")
    assert made == page.replace("old", r"new \1")
    assert results.put(made, "a", "old") == page
    assert results.put(page, "ab", "x") == page.replace("<!-- ab -->\n", "<!-- ab -->\nx\n")
    with pytest.raises(FedmemError, match="no <!-- b -->"):
        results.put(page, "b", "x")


def test_every_page_of_the_project_is_of_an_experiment_and_can_be_made_again() -> None:
    pages = sorted(results.PAGES.glob("*.md"))
    assert {page.stem for page in pages} >= {"ml-1m", "ml-1m-top-1000", "ml-100k"}
    for path in pages:
        page = path.read_text(encoding="utf-8")
        begin, end = results.marks(load_experiment(path.stem).name)
        tables = page[page.index(begin) + len(begin) + 1 : page.index(end) - 1]
        assert results.put(page, path.stem, tables) == page
        assert results.CAPTIONS["arms"] in tables


def test_runs_of_an_experiment_become_its_section(
    make_settings: Callable[..., Settings],
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for arm, rounds in (("longer", 1), ("stage1", 2)):
        settings = make_settings("stage=pretrain_sasrec", f"federation.rounds={rounds}")
        folder = tmp_path / "runs" / arm / "seed-0"
        where = replace(settings.checkpoint, dir=str(folder / "checkpoints"))
        settings = replace(settings, output_dir=str(folder), checkpoint=where)
        Run(settings, [], keep_ranks=True)(InProcessGrid(settings.federation.nodes))
    page = tmp_path / "ml-1m.md"
    monkeypatch.setattr(results, "PAGES", tmp_path)
    results.main(["ml-1m", str(tmp_path / "runs"), "--data-dir", str(data_dir)])
    made = page.read_text()
    page.write_text(made.replace("# ml-1m\n", "# By hand\n"))
    results.main(["ml-1m", str(tmp_path / "runs"), "--data-dir", str(data_dir)])
    assert page.read_text() == made.replace("# ml-1m\n", "# By hand\n")
    found = {n: text.format(against="longer") in made for n, text in results.CAPTIONS.items()}
    assert found == {n: n not in ("privacy", "share") for n in results.CAPTIONS}  # none such here
    runs, _ = read_runs(find_runs([str(tmp_path / "runs")]), data_dir)
    assert set(results.CAPTIONS) == set(tables_of(Study.of(runs)))
    rows = [line.split("|")[1].strip() for line in made.splitlines() if line.startswith("|")]
    assert rows[:4] == ["arm", "-" * 8, "stage1", "longer"]  # in the order of the experiment
    assert "item: head" in made
    assert "Made with fedmem" in made
