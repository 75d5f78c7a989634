"""The report's tables: what arms came to and by how much they differ; every figure behind them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.statistics import Difference, mean_and_deviation
from fedmem.core.stages import CENTRALISED
from fedmem.report.contrasts import SLICED, Contrast
from fedmem.report.groups import RunGroup
from fedmem.report.pairing import same_data
from fedmem.report.privacy import PRIVACY_HEADINGS, privacy_rows
from fedmem.report.runs import METRICS, Record, RecordedRun
from fedmem.report.study import Study
from fedmem.runs.progress import clock
from fedmem.runs.records import sample_note

METRIC_HEADINGS = [metric.replace("/", " ") for metric in METRICS]
IN_TERMINAL = 2 + len(METRICS)
"""Columns of the arms' table that 80 letters have room for."""
HEADINGS = ["stage", "seeds", *METRIC_HEADINGS, "best round", "trained", "MB moved", "time"]
SHARE_HEADINGS = ["arm", "stage", "seeds", *METRIC_HEADINGS]
DIFFERENCE_HEADINGS = ["metric", "users", "difference", "95% interval", "over seeds"]
SLICE_HEADINGS = ["slice", "users"]
SLICE_HEADINGS += [h for each in SLICED for h in (each.replace("/", " "), "95% interval")]


class Block(NamedTuple):
    """Rows of a table that belong together.

    Attributes:
        names: of the arm, or of the two arms of which the rows are the first less the second.
        rows: a cell for each heading of the table.
        note: of runs that have not finished, and of samples of the users; empty: there are none.
    """

    names: tuple[str, ...]
    rows: list[list[str]]
    note: str = ""


class Table(NamedTuple):
    """A table.

    Attributes:
        named: headings of its blocks' names.
        headings: of the columns beside them.
        blocks: its rows.
    """

    named: list[str]
    headings: list[str]
    blocks: list[Block]


def tables_of(study: Study) -> dict[str, Table]:
    """All tables by their subject; figures are of the test items, mean ± s.d. over seeds."""
    arms, shares = [], list(_shares(study))
    for group in study.groups:
        rows = [_cells(group, stage) for stage in group.stages() if group.results_of(stage)]
        notes = [f"seed {r.seed} is unfinished, it {r.standing}" for r in group.runs if r.standing]
        samples = map(sample_note, itertools.chain(*map(group.results_of, group.stages())))
        notes += [f"figures {note}" for note in dict.fromkeys(samples) if note]
        arms.append(Block((group.name,), rows, "; ".join(notes)))
    differences, slices = [], []
    for contrast in study.contrasts:
        names = (contrast.name, contrast.against)
        rows = [[d.metric.replace("/", " "), *_difference(d)] for d in contrast.differences]
        differences.append(Block(names, rows))
        rows = [
            [name, f"{found[0].users:,}", *(cell for d in found for cell in _difference(d)[1:3])]
            for name, found in _slices(contrast).items()
        ]
        slices.append(Block(names, rows))
    spent = [Block((group.name,), list(privacy_rows(group))) for group in study.groups]
    return {
        "arms": Table(["arm"], HEADINGS, arms),
        "privacy": Table(["arm"], PRIVACY_HEADINGS, [each for each in spent if each.rows]),
        "share": Table([], SHARE_HEADINGS, [Block((), shares)] if shares else []),
        "differences": Table(["arm", "less"], DIFFERENCE_HEADINGS, differences),
        "slices": Table(["arm", "less"], SLICE_HEADINGS, slices),
    }


def runs_frame(study: Study) -> pd.DataFrame:
    """A row for each stage of each run, with every figure as it was measured."""
    return pd.DataFrame(
        {
            "arm": group.name,
            "seed": run.seed,
            "stage": result["stage"],
            "finished": run.standing is None,
            "users": run.users,
            "ranked_users": result.get("ranked_users"),
            **{name: result[name] for name in ("rounds", "best_round", "trained_parameters")},
            "bytes_moved": run.moved_in(result["stage"]),
            **{name: result[name] for name in ("seconds", "threshold")},
            "epsilon": result.get("epsilon"),
            **{f"test/{name}": value for name, value in result["test"].items()},
            **{f"memory/{name}": value for name, value in (result["memory"] or {}).items()},
            "made_with": str(run.made_with or ""),
            "folder": str(run.folder),
        }
        for group in study.groups
        for run in group.runs
        for result in map(run.result_of, run.stages())
        if result is not None
    )


def differences_frame(study: Study) -> pd.DataFrame:
    """A row for each difference, over all users and in each slice, as it was measured."""
    return pd.DataFrame(
        {
            "name": contrast.name,
            "against": contrast.against,
            "slice": part,
            "metric": found.metric,
            "users": found.users,
            "difference": found.over_users.mean,
            "low": found.over_users.low,
            "high": found.over_users.high,
            "seeds": len(found.by_seed),
            "seeds_mean": found.over_seeds[0],
            "seeds_deviation": found.over_seeds[1],
        }
        for contrast in study.contrasts
        for part, own in {"all users": contrast.differences, **_slices(contrast)}.items()
        for found in own
    )


def _cells(group: RunGroup, stage: str) -> list[str]:
    results = group.results_of(stage)
    ended = [run for run in group.runs if run.result_of(stage) and run.rounds_of(stage)]
    bytes_moved = [run.moved_in(stage) for run in ended]
    tests = [result["test"] for result in results]
    return [
        stage,
        str(len(results)),
        *(spread([test[metric] for test in tests if metric in test]) for metric in METRICS),
        " of ".join(_range([r[key] for r in results]) for key in ("best_round", "rounds")),
        f"{results[0]['trained_parameters']:,}",
        f"{np.mean(bytes_moved) / 1e6:,.1f}" if bytes_moved else "–",
        clock(float(np.mean([result["seconds"] for result in results]))),
    ]


def _shares(study: Study) -> Iterator[list[str]]:
    """How much of training on pooled data federated training reaches, if there is a run of both.

    A share is that of the means over the seeds that both have; groups of other users are left out.
    """
    for group in study.groups:
        for stage in group.stages():
            pairs = [
                [ours["test"][metric], theirs["test"][metric]]
                for run in group.runs
                if (ours := run.result_of(stage)) and (theirs := _of_pooled_data(study, run))
                for metric in METRICS
            ]
            if pairs:
                means = np.reshape(pairs, (-1, len(METRICS), 2)).mean(axis=0)
                seeds = str(len(pairs) // len(METRICS))
                yield [group.name, stage, seeds, *(f"{a / b:.1%}" for a, b in means)]


def _of_pooled_data(study: Study, run: RecordedRun) -> Record | None:
    """What training on the pooled data of a run's users, with its seed, came to; None: not known,
    or it is this run.
    """
    for other in (other for group in study.groups for other in group.runs):
        found = other.result_of(CENTRALISED.name)
        mine, yours = ((each.seed, each.users, each.sample) for each in (run, other))
        if found and mine == yours and same_data(run, other):
            return None if other is run else found
    return None


def _slices(contrast: Contrast) -> dict[str, list[Difference]]:
    """Empty where the data are not where they were: the page gives the reason."""
    with contextlib.suppress(FedmemError):
        return contrast.slices
    return {}


def _difference(found: Difference) -> list[str]:
    """Cells of `DIFFERENCE_HEADINGS`, but for the metric."""
    whole, (mean, deviation) = found.over_users, found.over_seeds
    over_seeds = f"{_signed(mean)} ± {deviation:.4f}".replace("± 0", "± ")
    return [
        f"{found.users:,}",
        _signed(whole.mean),
        f"{_signed(whole.low)} … {_signed(whole.high)}",
        over_seeds if len(found.by_seed) > 1 else "one seed",
    ]


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("0.", ".", 1).replace("-", "−")


def spread(values: list[float]) -> str:
    """Mean ± s.d. (of a sample), or the one value that there is."""
    if not values:
        return "–"
    shown = mean_and_deviation(values) if len(values) > 1 else values
    digits = 3 if len(values) > 1 else 4
    return " ± ".join(f"{value:.{digits}f}".removeprefix("0") for value in shown)


def _range(values: list[int]) -> str:
    return "–".join(map(str, sorted({min(values), max(values)})))
