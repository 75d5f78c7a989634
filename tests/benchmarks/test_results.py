"""The page of results: tables come between their marks, and what stands around stays."""

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
from tests.in_process_grid import InProcessGrid


def test_tables_take_the_place_of_those_before_and_of_nothing_else() -> None:
    page = "by hand\n<!-- a -->\nold\n<!-- /a -->\n<!-- ab -->\n<!-- /ab -->\nby hand too\n"
    made = results.put(page, "a", r"new \1")
    assert made == page.replace("old", r"new \1")
    assert results.put(made, "a", "old") == page
    assert results.put(page, "ab", "x") == page.replace("<!-- ab -->\n", "<!-- ab -->\nx\n")
    with pytest.raises(FedmemError, match="no <!-- b -->"):
        results.put(page, "b", "x")


def test_the_page_of_the_project_has_a_place_for_what_it_reports() -> None:
    page = results.PAGE.read_text(encoding="utf-8")
    for name in ("ml-1m", "ml-1m-top-1000", "ml-100k"):
        results.put(page, load_experiment(name).name, "")


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
    page = tmp_path / "results.md"
    page.write_text("# Results\n<!-- ml-1m -->\n<!-- /ml-1m -->\n")
    monkeypatch.setattr(results, "PAGE", page)
    results.main(["ml-1m", str(tmp_path / "runs"), "--data-dir", str(data_dir)])
    made = page.read_text()
    captions = [text.format(against="longer") for text in results.CAPTIONS.values()]
    assert [caption in made for caption in captions] == [True, False, True, True]  # none pooled
    rows = [line.split("|")[1].strip() for line in made.splitlines() if line.startswith("|")]
    assert rows[:4] == ["arm", "-" * 8, "stage1", "longer"]  # in the order of the experiment
    assert "item: head" in made
    assert "Made with fedmem" in made
