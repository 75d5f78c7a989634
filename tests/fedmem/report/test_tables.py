"""The table's figures are those of the runs, and its three forms agree."""

from __future__ import annotations

import io

from rich.console import Console

from fedmem.report.runs import RecordedRun
from fedmem.report.study import Study
from fedmem.report.tables import HEADINGS, runs_frame, spread, tables_of
from fedmem.report.text import print_tables, to_markdown
from tests.helpers.recorded_runs import MakeRun, result


def two_arms(make_run: MakeRun) -> Study:
    few, all_of_them = "federation.num_clients=50", "federation.num_clients=null"
    return Study.of(
        [
            make_run(few, "seed=0", hr=0.25),
            make_run(few, "seed=1", results=[result("pretrain_sasrec", 0.75, best_round=4)]),
            make_run(all_of_them, "seed=0", hr=0.5),
            make_run(all_of_them, "seed=1", results=[], standing="stands after round 1"),
        ]
    )


def test_a_row_has_mean_and_deviation_over_seeds_and_what_it_cost(make_run: MakeRun) -> None:
    few, most = tables_of(two_arms(make_run))["arms"].blocks
    row = dict(zip(HEADINGS, few.rows[0], strict=True))
    assert row["sampled HR@10"] == ".500 ± .354"  # 0.25 and 0.75: s.d. of a sample √(2 · 0.25²)
    assert row["full HR@10"] == ".250 ± .177"
    assert row["best round"] == "2–4 of 4"
    assert row["MB moved"] == "12.0"
    assert row["time"] == "1:01"
    assert dict(zip(HEADINGS, most.rows[0], strict=True))["sampled HR@10"] == ".5000"
    assert most.note == "seed 1 is unfinished, it stands after round 1"
    assert few.note == ""


def test_the_terminal_table_fits_80_columns_and_names_arms_and_unfinished_runs(
    make_run: MakeRun,
) -> None:
    console = Console(file=io.StringIO(), width=80)
    print_tables(two_arms(make_run), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "\n\nnum_clients=50\n" in text
    rows = [line for line in text.splitlines() if line.startswith(("stage", "pretrain_sasrec"))]
    assert len(rows) == 3
    assert len({len(row.rstrip()) for row in rows}) == 1
    assert ".500 ± .354" in text
    assert "seed 1 is unfinished, it stands after round 1" in text


def test_markdown_has_every_column_of_every_row(make_run: MakeRun) -> None:
    study = two_arms(make_run)
    heading, rule, *rows, _, note = to_markdown(study).splitlines()
    assert note == f"{study.notes[0]}."
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (heading, *rows)]
    assert cells[0] == ["arm", *HEADINGS]
    assert set(rule) <= set("|-: ")
    assert [row[0] for row in cells[1:]] == ["num_clients=50", "num_clients=all", "num_clients=all"]
    assert all(len(row) == 1 + len(HEADINGS) for row in cells)


def test_a_share_of_pooled_training_is_of_the_seeds_and_users_that_both_have(
    make_run: MakeRun,
) -> None:
    def run(arm: str, seed: int, stage: str, hr: float, users: int = 9) -> RecordedRun:
        folder = f"x/{arm}/seed-{seed}"
        return make_run(f"seed={seed}", folder=folder, results=[result(stage, hr)], users=users)

    federated = [run("a", seed, "pretrain_sasrec", hr) for seed, hr in enumerate((0.5, 0.75, 0.1))]
    few = run("few", 0, "pretrain_sasrec", 0.5, users=5)
    pooled = [run("c", seed, "centralised", 1.0) for seed in (0, 1)]
    other = make_run("data.min_interactions=9", results=[result("pretrain_sasrec", 0.5)], users=9)
    assert tables_of(Study.of([*federated, few]))["share"].blocks == []
    study = Study.of([*federated, few, other, *pooled])
    (block,) = tables_of(study)["share"].blocks
    assert block.rows == [["a", "pretrain_sasrec", "2", *["62.5%"] * 4]]
    assert " 62.5% " in to_markdown(study)


def test_csv_has_a_row_for_every_run_with_unrounded_figures(make_run: MakeRun) -> None:
    frame = runs_frame(two_arms(make_run))
    assert frame["test/sampled/HR@10"].tolist() == [0.25, 0.75, 0.5]
    assert frame["seed"].tolist() == [0, 1, 0]
    assert frame["bytes_moved"].tolist() == [12_000_000] * 3
    assert frame["users"].tolist()[:2] == [50, 50]


def test_one_value_has_no_deviation_and_none_is_a_dash() -> None:
    assert [spread(values) for values in ([], [0.123456])] == ["–", ".1235"]
