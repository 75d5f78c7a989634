"""What every group of runs came to, stage by stage: a table's cells, and the figures behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fedmem.core.evaluation.statistics import mean_and_deviation
from fedmem.report.groups import RunGroup
from fedmem.report.runs import METRICS, moved
from fedmem.report.study import Study
from fedmem.runs.progress import clock

HEADINGS = (
    "stage",
    "seeds",
    *(metric.replace("/", " ") for metric in METRICS),
    "best round",
    "trained",
    "MB moved",
    "time",
)


@dataclass(frozen=True)
class Block:
    """A group of runs in the table: an arm.

    Attributes:
        arm: its name.
        rows: a stage each, a cell for each of `HEADINGS`.
        note: of its runs that have not finished; empty: all have.
    """

    arm: str
    rows: list[list[str]]
    note: str


def blocks_of(study: Study) -> list[Block]:
    """The table, group by group: mean ± s.d. over seeds, on the test items."""
    return [
        Block(
            group.name,
            [list(_cells(group, stage)) for stage in group.stages() if group.results_of(stage)],
            "; ".join(
                f"seed {run.seed} is unfinished, it {run.standing}"
                for run in group.runs
                if run.standing
            ),
        )
        for group in study.groups
    ]


def to_frame(study: Study) -> pd.DataFrame:
    """A row for each stage of each run, with every figure as it was measured."""
    return pd.DataFrame(
        {
            "arm": group.name,
            "seed": run.seed,
            "stage": stage,
            "finished": run.standing is None,
            "users": run.users,
            "rounds": result["rounds"],
            "best_round": result["best_round"],
            "trained_parameters": result["trained_parameters"],
            "bytes_moved": sum(map(moved, run.rounds_of(stage))),
            "seconds": result["seconds"],
            "threshold": result["threshold"],
            **{f"test/{name}": value for name, value in result["test"].items()},
            **{f"memory/{name}": value for name, value in (result["memory"] or {}).items()},
            "made_with": str(run.made_with or ""),
            "folder": str(run.folder),
        }
        for group in study.groups
        for run in group.runs
        for stage in run.stages()
        if (result := run.result_of(stage)) is not None
    )


def _cells(group: RunGroup, stage: str) -> Iterator[str]:
    results = group.results_of(stage)
    yield stage
    yield str(len(results))
    for metric in METRICS:
        yield spread([result["test"][metric] for result in results if metric in result["test"]])
    yield " of ".join(_range([r[key] for r in results]) for key in ("best_round", "rounds"))
    yield f"{results[0]['trained_parameters']:,}"
    bytes_moved = [sum(map(moved, own)) for run in group.runs if (own := run.rounds_of(stage))]
    yield f"{np.mean(bytes_moved) / 1e6:,.1f}" if bytes_moved else "–"
    yield clock(float(np.mean([result["seconds"] for result in results])))


def spread(values: list[float]) -> str:
    """Mean ± s.d. (of a sample), or the one value that there is."""
    if not values:
        return "–"
    if len(values) == 1:
        return _short(values[0], 4)
    mean, deviation = mean_and_deviation(values)
    return f"{_short(mean, 3)} ± {_short(deviation, 3)}"


def _short(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".removeprefix("0")


def _range(values: list[int]) -> str:
    least, most = min(values), max(values)
    return str(most) if least == most else f"{least}–{most}"
