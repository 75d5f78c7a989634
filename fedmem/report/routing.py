"""What the router makes of the experts: their weights over the items, and by genre."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from fedmem.core.data.id_files import read_item_ids
from fedmem.core.errors import FedmemError, first_line
from fedmem.core.model.parameters import router_weights
from fedmem.core.plots import SERIES
from fedmem.core.stages import FINETUNE_MOE
from fedmem.features.table import Report, find_table, read_items
from fedmem.report.canvas import NothingToDraw, height_of, legend, name_rows
from fedmem.report.runs import RecordedRun
from fedmem.report.study import Study
from fedmem.runs.checkpoints import load_left

LEAST_ITEMS = 5
"""A genre with fewer items is left out."""


class Routing(NamedTuple):
    """Weights of the experts in one arm: [I, E] for every item, from a checkpoint of this run."""

    arm: str
    run: RecordedRun
    experts: list[str]
    weights: npt.NDArray[np.float64]


def draw_router(study: Study, figure: Figure) -> str:
    """Weights that the router gives to each expert, over the items."""
    found = _routings(study)
    figure.set_figheight(1.3 + height_of([routing.arm for routing in found], 0.6))
    axes = figure.subplots()
    experts = list(dict.fromkeys(name for routing in found for name in routing.experts))
    for place, routing in enumerate(found):
        each = zip(routing.experts, routing.weights.T, strict=True)
        for number, (name, weights) in enumerate(each):
            colour = SERIES[experts.index(name)]
            y = place + 0.22 * (number - (len(routing.experts) - 1) / 2)
            low, first, middle, third, high = np.quantile(weights, [0.05, 0.25, 0.5, 0.75, 0.95])
            axes.plot([low, high], [y, y], color=colour, linewidth=1)
            axes.plot([first, third], [y, y], color=colour, linewidth=4, solid_capstyle="butt")
            label = name if place == 0 else None
            axes.plot(middle, y, "o", color=colour, markersize=5, label=label)
    name_rows(axes, [routing.arm for routing in found])
    axes.set_xlim(left=0)
    axes.set_xlabel("weight, of the experts' sum of 1")
    legend(figure, axes)
    spreads = ", ".join(
        f"{expert} {spread:.3f}"
        for expert, spread in zip(found[0].experts, found[0].weights.std(0), strict=True)
    )
    return (
        "Median, middle half and middle 90% of the items, in the first seed's checkpoint. "
        f"Standard deviation over items in {found[0].arm}: {spreads}."
    )


def draw_genres(study: Study, figure: Figure) -> str:
    """Mean weight of each expert over the items of a genre."""
    routing = _routings(study)[0]
    left_out: list[str] = []
    rows = _genres(routing.run, left_out.append)
    if not rows:
        raise NothingToDraw("the data's folder has no item table with genres")
    figure.set_figheight(1.1 + 0.19 * len(rows))
    axes = figure.subplots()
    for number, expert in enumerate(routing.experts):
        means = [routing.weights[np.array(items) - 1, number].mean() for _, items in rows]
        axes.plot(means, range(len(rows)), "o", color=SERIES[number], markersize=5, label=expert)
        axes.axvline(routing.weights[:, number].mean(), color=SERIES[number], linewidth=0.8)
    name_rows(axes, [f"{genre} ({len(items):,})" for genre, items in rows])
    axes.set_xlabel("mean weight")
    legend(figure, axes)
    return (
        f"{routing.arm}, seed {routing.run.seed}; items in brackets, the lines are means over all. "
        "An item counts in each of its genres."
        + "".join(f" Of the item table {line}." for line in left_out)
    )


def _routings(study: Study) -> list[Routing]:
    """Of each group, its first seed that can be looked at.

    Raises:
        NothingToDraw: no arm has one.
    """
    found: list[Routing] = []
    for group in study.groups:
        for run in group.runs:
            try:
                found.append(_routing(group.name, run))
                break
            except (FedmemError, NothingToDraw) as error:
                reason = first_line(error)
    if not found:
        raise NothingToDraw(reason)
    return found


def _routing(arm: str, run: RecordedRun) -> Routing:
    result = run.result_of(FINETUNE_MOE.name)
    if result is None:
        raise NothingToDraw(f"no run has ended {FINETUNE_MOE.name}")
    path = Path(result["checkpoint"])
    checkpoint = load_left(run.folder, FINETUNE_MOE.name, path, run.hashes)
    experts = list(checkpoint.model.experts)
    if len(experts) < 2:
        raise NothingToDraw("with one expert there is nothing to weigh")
    weights = router_weights(checkpoint.model, checkpoint.parameters).double().numpy()
    return Routing(arm, run, experts, weights)


def _genres(run: RecordedRun, report: Report) -> list[tuple[str, list[int]]]:
    """Each genre and the dense ids of its items, most items first; none without a table of them.

    Raises:
        NothingToDraw: the table cannot be read.
    """
    table = find_table(Path(run.settings["data"]["dir"]))
    ids = read_item_ids(run.folder)
    if table is None or ids is None:
        return []
    dense = {str(own): place for place, own in enumerate(ids, 1)}
    found: dict[str, list[int]] = defaultdict(list)
    encoding = run.settings["data"]["encoding"]
    try:
        items = read_items(table, {}, encoding=encoding, report=report, fields=("id", "genres"))
    except FedmemError as error:
        raise NothingToDraw(first_line(error)) from error
    for item in items:
        for genre in filter(None, item.genres.split(", ")):
            if item.id in dense:
                found[genre].append(dense[item.id])
    enough = [(genre, items) for genre, items in found.items() if len(items) >= LEAST_ITEMS]
    return sorted(enough, key=lambda pair: -len(pair[1]))
