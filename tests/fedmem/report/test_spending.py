"""What private runs have spent: in the tables, and over the rounds in a plot."""

from __future__ import annotations

import io
from typing import Any

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from fedmem.report.canvas import NothingToDraw
from fedmem.report.privacy import PRIVACY_HEADINGS, draw_spending
from fedmem.report.runs import RecordedRun
from fedmem.report.study import Study
from fedmem.report.tables import runs_frame, tables_of
from fedmem.report.text import print_tables, to_markdown
from tests.helpers.recorded_runs import MakeRun, result, rounds


def private_run(make_run: MakeRun, epsilon: float, **others: Any) -> RecordedRun:
    records = rounds("pretrain_sasrec", [0.1, 0.2])
    spent = [
        record | {"epsilon": epsilon * share}
        for record, share in zip(records, (0.7, 1), strict=True)
    ]
    results = [result("pretrain_sasrec", 0.4, epsilon=epsilon)]
    return make_run("privacy=central", rounds=spent, results=results, **others)


def test_a_row_says_what_was_promised_and_spent_and_others_have_none(make_run: MakeRun) -> None:
    runs = [make_run(), private_run(make_run, 7.9, folder="a/1")]
    study = Study.of(runs)
    (block,) = tables_of(study)["privacy"].blocks
    row = ["pretrain_sasrec", "central", "poisson", "noised", "7.90 of 8", "1e-05"]
    assert block.rows == [row]
    console = Console(file=io.StringIO(), width=80)
    print_tables(study, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "7.90 of 8" in text
    assert max(map(len, text.splitlines())) <= 80
    assert PRIVACY_HEADINGS[4] in to_markdown(study)
    assert runs_frame(study)["epsilon"].tolist()[-1] == 7.9
    assert tables_of(Study.of(runs[:1]))["privacy"].blocks == []


def test_spending_is_drawn_up_to_the_budget(make_run: MakeRun) -> None:
    figure = Figure()
    draw_spending(Study.of([private_run(make_run, 7.9)]), figure)
    line, budget = figure.axes[0].lines
    assert list(line.get_xdata()) == [1, 2]
    assert list(line.get_ydata()) == pytest.approx([5.53, 7.9])
    assert set(budget.get_ydata()) == {8.0}
    with pytest.raises(NothingToDraw, match="no run is private"):
        draw_spending(Study.of([make_run()]), Figure())
