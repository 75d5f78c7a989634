"""By how much arms differ, and how sure that is: over all users, and slice by slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedmem.core.errors import FedmemError, first_line
from fedmem.core.evaluation.statistics import Difference
from fedmem.core.plots.palette import GREY, SERIES
from fedmem.report.canvas import NothingToDraw, height_of, legend, name_rows
from fedmem.report.contrasts import SLICED, Contrast
from fedmem.report.runs import METRICS
from fedmem.report.study import Study

ALL = "all users"
HEADINGS = ("metric", "users", "difference", "95% interval", "over seeds")
SLICE_HEADINGS = (
    "slice",
    "users",
    *(heading for metric in SLICED for heading in (metric.replace("/", " "), "95% interval")),
)


def rows_of(contrast: Contrast) -> list[list[str]]:
    """A contrast in the table: a row a metric, a cell for each of `HEADINGS`."""
    return [[found.metric.replace("/", " "), *_cells(found)] for found in contrast.differences]


def slice_rows(contrast: Contrast) -> list[list[str]]:
    """The same slice by slice: a row for each, a cell for each of `SLICE_HEADINGS`."""
    return [
        [name, f"{found[0].users:,}", *(cell for each in found for cell in _cells(each)[1:3])]
        for name, found in _slices(contrast).items()
    ]


def to_frame(study: Study) -> pd.DataFrame:
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
        for part, differences in {ALL: contrast.differences, **_slices(contrast)}.items()
        for found in differences
    )


def _slices(contrast: Contrast) -> dict[str, list[Difference]]:
    """Empty where the data are not where they were: `draw_slices` gives the reason."""
    try:
        return contrast.slices
    except FedmemError:
        return {}


def draw_differences(study: Study, figure: Figure) -> str:
    """Difference in HR@10 with its 95% interval, paired over users."""
    if not study.contrasts:
        raise NothingToDraw("no two arms or stages have ranks of the same users")
    names = [contrast.name for contrast in study.contrasts]
    figure.set_figheight(1.1 + height_of(names, 0.3))
    sides = figure.subplots(1, 2, sharey=True)
    for axes, metric in zip(sides, SLICED, strict=True):
        for row, contrast in enumerate(study.contrasts):
            found = contrast.differences[METRICS.index(metric)]
            _draw_interval(axes, row, found, SERIES[0])
        _dress(axes, metric)
    name_rows(sides[0], names)
    return (
        f"Less {_against(study)}, on the test items. Dots are seeds; an interval speaks of users, "
        "by the bootstrap over them, and one that excludes 0 is drawn thick."
    )


def draw_slices(study: Study, figure: Figure) -> str:
    """The same for parts of the users, by their test item and the length of their history."""
    if not study.contrasts:
        raise NothingToDraw("no two arms or stages have ranks of the same users")
    try:
        names = list(study.contrasts[0].slices)
        found = [[c.slices.get(name) for name in names] for c in study.contrasts]
    except FedmemError as error:
        raise NothingToDraw(first_line(error)) from error
    figure.set_figheight(1.3 + len(names) * (0.2 + 0.09 * len(found)))
    sides = figure.subplots(1, 2, sharey=True)
    group_names = [group.name for group in study.groups]  # each has one colour on all of the page
    places = [
        group_names.index(c.name) if c.name in group_names else number
        for number, c in enumerate(study.contrasts)
    ]
    colours = [SERIES[place % len(SERIES)] for place in places]
    shift = np.linspace(-0.3, 0.3, len(found)) if len(found) > 1 else [0.0]
    for place, (axes, metric) in enumerate(zip(sides, SLICED, strict=True)):
        for number, (contrast, own) in enumerate(zip(study.contrasts, found, strict=True)):
            colour = colours[number]
            axes.plot([], [], color=colour, label=contrast.name)
            for row, differences in enumerate(own):
                if differences:
                    _draw_interval(axes, row + shift[number], differences[place], colour, False)
        _dress(axes, metric)
    name_rows(sides[0], names)
    legend(figure, sides[0])
    cold = "; cold items were kept from training, and are ranked among such items and among all"
    return (
        f"Less {_against(study)}. Head, middle and tail are items by how often they were trained "
        "on, a third of the interactions each; histories are parted in three of as many users"
        f"{cold if any(c.cold for c in study.contrasts) else ''}."
    )


def _draw_interval(
    axes: Axes, row: float, found: Difference, colour: str, seeds: bool = True
) -> None:
    whole = found.over_users
    width = 3.0 if whole.excludes_zero else 1.2
    axes.plot([whole.low, whole.high], [row, row], color=colour, linewidth=width)
    axes.plot(whole.mean, row, "o", color=colour, markersize=4.5)
    if seeds and len(found.by_seed) > 1:
        axes.plot(found.by_seed, [row + 0.25] * len(found.by_seed), ".", color=GREY, markersize=3)


def _dress(axes: Axes, metric: str) -> None:
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_title(metric.replace("/", " "))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{x:+.3g}".replace("0.", ".") if x else "0")
    )
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _against(study: Study) -> str:
    return ", ".join(dict.fromkeys(contrast.against for contrast in study.contrasts))


def _cells(found: Difference) -> Sequence[str]:
    whole, (mean, deviation) = found.over_users, found.over_seeds
    over_seeds = "one seed"
    if len(found.by_seed) > 1:
        over_seeds = f"{_signed(mean)} ± {deviation:.4f}".replace("± 0", "± ")
    return (
        f"{found.users:,}",
        _signed(whole.mean),
        f"{_signed(whole.low)} … {_signed(whole.high)}",
        over_seeds,
    )


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("0.", ".", 1).replace("-", "−")
