"""By how much arms differ, and how sure that is: over all users, and slice by slice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedmem.core.errors import FedmemError, first_line
from fedmem.core.evaluation.statistics import Difference
from fedmem.core.plots import GREY, SERIES
from fedmem.report.canvas import NothingToDraw, height_of, legend, name_rows
from fedmem.report.contrasts import SLICED
from fedmem.report.runs import METRICS
from fedmem.report.study import Study


def draw_differences(study: Study, figure: Figure) -> str:
    """Difference in HR@10 with its 95% interval, paired over users."""
    against = _against(study)
    names = [contrast.name for contrast in study.contrasts]
    figure.set_figheight(1.1 + height_of(names, 0.3))
    for axes, metric in _sides(figure):
        for row, contrast in enumerate(study.contrasts):
            found = contrast.differences[METRICS.index(metric)]
            _draw_interval(axes, row, found, SERIES[0])
            if len(found.by_seed) > 1:
                rows = [row + 0.25] * len(found.by_seed)
                axes.plot(found.by_seed, rows, ".", color=GREY, markersize=3)
        _dress(axes, metric, names)
    return (
        f"Less {against}, on the test items. Dots are seeds; an interval speaks of users, "
        "by the bootstrap over them, and one that excludes 0 is drawn thick."
    )


def draw_slices(study: Study, figure: Figure) -> str:
    """The same for parts of the users, by their test item and the length of their history."""
    against = _against(study)
    try:
        names = list(study.contrasts[0].slices)
        found = [[c.slices.get(name) for name in names] for c in study.contrasts]
    except FedmemError as error:
        raise NothingToDraw(first_line(error)) from error
    figure.set_figheight(1.3 + len(names) * (0.2 + 0.09 * len(found)))
    places = {group.name: place for place, group in enumerate(study.groups)}
    shift = np.linspace(-0.3, 0.3, len(found)) if len(found) > 1 else [0.0]
    for axes, metric in _sides(figure):
        for number, (contrast, own) in enumerate(zip(study.contrasts, found, strict=True)):
            # A group has one colour on all of the page.
            colour = SERIES[places.get(contrast.name, number) % len(SERIES)]
            axes.plot([], [], color=colour, label=contrast.name)
            for row, differences in enumerate(own):
                if differences:
                    difference = differences[SLICED.index(metric)]
                    _draw_interval(axes, row + shift[number], difference, colour)
        _dress(axes, metric, names)
    legend(figure, figure.axes[0])
    cold = "; cold items were kept from training, and are ranked among such items and among all"
    return (
        f"Less {against}. Head, middle and tail are items by how often they were trained "
        "on, a third of the interactions each; histories are parted in three of as many users"
        f"{cold if any(c.cold for c in study.contrasts) else ''}."
    )


def _sides(figure: Figure) -> Iterator[tuple[Axes, str]]:
    """A side of the figure for each metric in `SLICED`."""
    return zip(figure.subplots(1, len(SLICED), sharey=True), SLICED, strict=True)


def _dress(axes: Axes, metric: str, names: list[str]) -> None:
    """Rows of these names around 0."""
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_title(metric.replace("/", " "))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{x:+.3g}".replace("0.", ".") if x else "0")
    )
    name_rows(axes, names)


def _draw_interval(axes: Axes, row: float, found: Difference, colour: str) -> None:
    whole = found.over_users
    width = 3.0 if whole.excludes_zero else 1.2
    axes.plot([whole.low, whole.high], [row, row], color=colour, linewidth=width)
    axes.plot(whole.mean, row, "o", color=colour, markersize=4.5)


def _against(study: Study) -> str:
    """Names of what the others are compared with.

    Raises:
        NothingToDraw: there are no two to compare.
    """
    if not study.contrasts:
        raise NothingToDraw("no two arms or stages have ranks of the same users")
    return ", ".join(dict.fromkeys(contrast.against for contrast in study.contrasts))
