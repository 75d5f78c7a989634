"""How HR@10 goes: over the rounds, the bytes that were moved, and the clients that take part."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from fedmem.core.evaluation.statistics import mean_and_deviation
from fedmem.core.plots import GREY
from fedmem.report.canvas import NothingToDraw, legend, style_of
from fedmem.report.groups import CLIENTS, identity
from fedmem.report.runs import RecordedRun, moved
from fedmem.report.study import Study
from fedmem.runs.records import SELECTED_BY

Curve = npt.NDArray[np.float64]
ROUNDS, MEGABYTES, VALUES, OWN_ROUNDS = range(4)
"""Rows of a curve; rounds are counted through the stages, own rounds from the stage's first."""


def draw_learning_curves(study: Study, figure: Figure) -> str:
    """HR@10 on the validation items over the rounds of all stages."""
    axes = figure.subplots()
    text = _draw_curves(study, axes, ROUNDS)
    starts = _stage_starts(study)
    for round_ in starts:
        axes.axvline(round_, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlabel("round, counted through the stages")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, axes)
    return text + ("The next stage starts at a dotted line." if starts else "")


def draw_bytes(study: Study, figure: Figure) -> str:
    """HR@10 on the validation items over the bytes of all messages and replies."""
    axes = figure.subplots()
    text = _draw_curves(study, axes, MEGABYTES)
    if not axes.dataLim.x1 > 0:
        raise NothingToDraw("no run moved anything")
    axes.set_xlabel("MB moved, to the nodes and back, all of them together")
    legend(figure, axes)
    return (
        f"{text}A node brings its users' mean change, so what is moved "
        "depends on the nodes that share them."
    )


def _stage_starts(study: Study) -> list[int]:
    """Rounds after which a stage starts, but the first, where all groups have the same."""
    found = {
        tuple(
            next(study.before[run.folder, stage] for run in group.runs if stage in run.stages())[0]
            for stage in group.stages()
        )
        for group in study.groups
    }
    return [start for start in found.pop() if start] if len(found) == 1 else []


def _draw_curves(study: Study, axes: Axes, row: int) -> str:
    """A row of each stage's curve against HR@10; returns how to read it."""
    many = len(study.groups) > 1
    for place, group in enumerate(study.groups):
        named = False
        for number, stage in enumerate(group.stages()):
            found = [
                (curve, run.result_of(stage))
                for run in group.runs
                if stage in run.stages() and (curve := _curve(study, run, stage)).size
            ]
            if not found:
                continue
            style = style_of(place if many else number)
            if len(found) > 1:
                for curve, _ in found:
                    axes.plot(curve[row], curve[VALUES], **style, linewidth=0.7, alpha=0.45)
            curves = [curve for curve, ended in found if ended] or [curve for curve, _ in found]
            mean = _mean(curves)
            label = stage if not many else None if named else group.name
            marker = "o" if mean.shape[1] == 1 else None
            axes.plot(mean[row], mean[VALUES], **style, label=label, marker=marker)
            named = True
    if not axes.lines:
        raise NothingToDraw("no run has validated a round yet")
    axes.set_ylabel("validation HR@10, sampled")
    axes.grid(axis="y")
    seeds = max(len(group.runs) for group in study.groups)
    text = f"Thin lines are seeds, up to {seeds}; the thick one is their mean. "
    lines = "A colour an arm; a line ends where a stage does. "
    return (text if seeds > 1 else "") + (lines if many else "")


def _curve(study: Study, run: RecordedRun, stage: str) -> Curve:
    """[4, n] at each validation: rounds and MB, of the stages before too, HR@10, own rounds."""
    rounds, spent = study.before[run.folder, stage]
    found = []
    for record in run.rounds_of(stage):
        spent += moved(record)
        if record["validation"]:
            value, own = record["validation"][SELECTED_BY], record["round"]
            found.append((rounds + own, spent / 1e6, value, own))
    return np.array(found).T


def _mean(curves: Sequence[Curve]) -> Curve:
    """The mean of curves at the rounds of the stage that all of them have validated."""
    shared = functools.reduce(np.intersect1d, [curve[OWN_ROUNDS] for curve in curves])
    parts = [curve[:, np.isin(curve[OWN_ROUNDS], shared)] for curve in curves]
    return np.asarray(np.mean(parts, axis=0))


def draw_clients(study: Study, figure: Figure) -> str:
    """HR@10 on the test items against the number of clients, stage by stage."""
    runs = _client_sweep(study)
    axes = figure.subplots()
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for result in run.results:
            found[result["stage"]][run.users or 0].append(result["test"][SELECTED_BY])
    for place, (stage, values) in enumerate(found.items()):
        x = sorted(values)
        mean, deviation = np.array([mean_and_deviation(values[count]) for count in x]).T
        band = np.nan_to_num(deviation)  # of one seed there is none
        style = style_of(place)
        axes.plot(x, mean, **style, marker="o", markersize=4, label=stage)
        shade = {"color": style["color"], "alpha": 0.15, "linewidth": 0}
        axes.fill_between(x, mean - band, mean + band, **shade)
    axes.set_xscale("log")
    axes.set_xticks(sorted({run.users or 0 for run in runs}))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("clients that take part")
    axes.set_ylabel("test HR@10, sampled")
    axes.grid(axis="y")
    legend(figure, axes)
    most = max(len(each) for values in found.values() for each in values.values())
    if most == 1:
        return "One seed each, so there is no band."
    return f"Mean over seeds, up to {most}; a band is ± one standard deviation of them."


def _client_sweep(study: Study) -> list[RecordedRun]:
    """The runs that differ in their clients alone; of several such sets the one with most counts.

    Raises:
        NothingToDraw: there are no two.
    """
    sets: dict[str, list[RecordedRun]] = defaultdict(list)
    for run in (run for group in study.groups for run in group.runs):
        if run.results and run.users:
            rest = {k: v for k, v in identity(run).items() if k != CLIENTS}
            sets[json.dumps(rest, sort_keys=True)].append(run)
    widest = max(sets.values(), key=lambda runs: len({run.users for run in runs}), default=[])
    if len({run.users for run in widest}) < 2:
        raise NothingToDraw(
            "no two runs differ in nothing but their clients: try -m federation.num_clients=50,200"
        )
    return widest
