"""The table of a set of runs: for the terminal, as Markdown, as CSV, and its cells for the page."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table

from fedmem.progress import clock
from fedmem.report.runs import Record
from fedmem.report.study import Arm, Study

METRICS = ("sampled/HR@10", "sampled/NDCG@10", "full/HR@10", "full/NDCG@10")
HEADINGS = (
    "stage",
    "seeds",
    *(metric.replace("/", " ") for metric in METRICS),
    "best round",
    "trained",
    "MB moved",
    "time",
)
IN_TERMINAL = 2 + len(METRICS)
"""Columns that 80 letters have room for."""


@dataclass(frozen=True)
class Block:
    """An arm in the table.

    Attributes:
        arm: its name.
        rows: a stage each, a cell for each of `HEADINGS`.
        note: of its runs that have not finished; empty: all have.
    """

    arm: str
    rows: list[list[str]]
    note: str


def blocks_of(study: Study) -> list[Block]:
    """The table, arm by arm: mean ± s.d. over seeds, on the test items."""
    return [
        Block(
            arm.name,
            [list(_cells(arm, stage)) for stage in arm.stages() if arm.results_of(stage)],
            "; ".join(
                f"seed {run.seed} is unfinished, it {run.standing}"
                for run in arm.runs
                if run.standing
            ),
        )
        for arm in study.arms
    ]


def print_table(study: Study, console: Console) -> None:
    """The table, in 80 columns; names and notes of arms stand between its rows."""
    blocks = blocks_of(study)
    headings = [heading.replace(" ", "\n") for heading in HEADINGS[:IN_TERMINAL]]
    columns = zip(headings, *(row for block in blocks for row in block.rows), strict=False)
    widths = [max(len(line) for cell in column for line in cell.split("\n")) for column in columns]

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    def lay(rows: list[list[str]], header: bool = False) -> None:
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=header)
        for place, (heading, width) in enumerate(zip(headings, widths, strict=True)):
            justify: JustifyMethod = "right" if place else "left"
            table.add_column(heading, justify=justify, no_wrap=True, min_width=width)
        for row in rows:
            table.add_row(*row[:IN_TERMINAL])
        console.print(table)

    lay([], header=True)
    for block in blocks:
        if len(blocks) > 1:
            say(f"\n{block.arm}")
        lay(block.rows)
        if block.note:
            say(block.note)


def to_markdown(study: Study) -> str:
    """The table as Markdown, all of its columns."""
    table = Table(box=box.MARKDOWN)
    for place, heading in enumerate(("arm", *HEADINGS)):
        table.add_column(heading, justify="right" if place > 1 else "left", no_wrap=True)
    for block in blocks_of(study):
        for row in block.rows:
            table.add_row(block.arm, *row)
        if block.note:
            table.add_row(block.arm, block.note)
    text = io.StringIO()
    Console(file=text, width=10_000, color_system=None).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join(line for line in lines if line) + "\n"


def to_frame(study: Study) -> pd.DataFrame:
    """A row for each stage of each run, with every figure as it was measured."""
    return pd.DataFrame(
        {
            "arm": arm.name,
            "seed": run.seed,
            "stage": stage,
            "finished": run.standing is None,
            "users": run.users,
            "rounds": result["rounds"],
            "best_round": result["best_round"],
            "trained_parameters": result["trained_parameters"],
            "bytes_moved": _moved([r for r in run.rounds if r["stage"] == stage]),
            "seconds": result["seconds"],
            "threshold": result["threshold"],
            **{f"test/{name}": value for name, value in result["test"].items()},
            **{f"memory/{name}": value for name, value in (result["memory"] or {}).items()},
            "folder": str(run.folder),
        }
        for arm in study.arms
        for run in arm.runs
        for stage in run.stages()
        if (result := run.result_of(stage)) is not None
    )


def _cells(arm: Arm, stage: str) -> Iterator[str]:
    results = arm.results_of(stage)
    yield stage
    yield str(len(results))
    for metric in METRICS:
        yield spread([result["test"][metric] for result in results if metric in result["test"]])
    yield " of ".join(_range([r[key] for r in results]) for key in ("best_round", "rounds"))
    yield f"{results[0]['trained_parameters']:,}"
    rounds = [[r for r in run.rounds if r["stage"] == stage] for run in arm.runs]
    yield f"{np.mean([_moved(own) for own in rounds if own]) / 1e6:,.1f}" if any(rounds) else "–"
    yield clock(float(np.mean([result["seconds"] for result in results])))


def spread(values: list[float]) -> str:
    """Mean ± s.d. (of a sample), or the one value that there is."""
    if not values:
        return "–"
    if len(values) == 1:
        return _short(values[0], 4)
    return f"{_short(np.mean(values), 3)} ± {_short(np.std(values, ddof=1), 3)}"


def _short(value: float | np.floating, digits: int) -> str:
    return f"{value:.{digits}f}".removeprefix("0")


def _range(values: list[int]) -> str:
    least, most = min(values), max(values)
    return str(most) if least == most else f"{least}–{most}"


def _moved(rounds: list[Record]) -> int:
    """Bytes that the training messages of these rounds and their replies came to."""
    return sum(record["bytes_down"] + record["bytes_up"] for record in rounds)
