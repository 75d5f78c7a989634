"""How HR@10 grows with the clients that take part."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from fedmem.core.evaluation.statistics import mean_and_deviation
from fedmem.report.canvas import NothingToDraw, legend, style_of
from fedmem.report.groups import CLIENTS, identity
from fedmem.report.runs import RecordedRun
from fedmem.report.study import Study
from fedmem.runs.records import SELECTED_BY


def draw_clients(study: Study, figure: Figure) -> str:
    """HR@10 on the test items against the number of clients, stage by stage."""
    runs = _sweep(study)
    axes = figure.subplots()
    counts = sorted({run.users for run in runs if run.users})
    most = 0
    for place, stage in enumerate(dict.fromkeys(s for run in runs for s in run.stages())):
        found: dict[int, list[float]] = defaultdict(list)
        for run in runs:
            result = run.result_of(stage)
            if result is not None and run.users:
                found[run.users].append(result["test"][SELECTED_BY])
        x = sorted(found)
        mean, deviation = np.array([mean_and_deviation(found[count]) for count in x]).T
        band = np.nan_to_num(deviation)  # of one seed there is none
        style = style_of(place)
        axes.plot(x, mean, **style, marker="o", markersize=4, label=stage)
        axes.fill_between(
            x, mean - band, mean + band, color=style["color"], alpha=0.15, linewidth=0
        )
        most = max(most, *map(len, found.values()))
    axes.set_xscale("log")
    axes.set_xticks(counts)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("clients that take part")
    axes.set_ylabel("test HR@10, sampled")
    axes.grid(axis="y")
    legend(figure, axes)
    if most == 1:
        return "One seed each, so there is no band."
    return f"Mean over seeds, up to {most}; a band is ± one standard deviation of them."


def _sweep(study: Study) -> list[RecordedRun]:
    """The runs that differ in their clients alone; of several such sets the one with most counts.

    Raises:
        NothingToDraw: there are no two.
    """
    sets: dict[str, list[RecordedRun]] = defaultdict(list)
    for group in study.groups:
        for run in group.runs:
            if run.results and run.users:
                rest = {k: v for k, v in identity(run).items() if k != CLIENTS}
                sets[json.dumps(rest, sort_keys=True)].append(run)
    widest = max(sets.values(), key=lambda runs: len({run.users for run in runs}), default=[])
    if len({run.users for run in widest}) < 2:
        raise NothingToDraw(
            "no two runs differ in nothing but their clients: try -m federation.num_clients=50,200"
        )
    return widest
