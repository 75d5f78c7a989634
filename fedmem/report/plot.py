"""A plot of the report: drawn where some run has what it shows, else left out with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from fedmem.report.canvas import canvas, to_svg
from fedmem.report.study import Study


class NothingToDraw(Exception):
    """No run has what the plot shows; the message says what is missing, without a full stop."""


@dataclass(frozen=True)
class Plot:
    """One of the report's plots.

    Attributes:
        name: for links and ids.
        title: its heading.
        draw: draws a study on a figure and returns what is to be known of it; raises
            `NothingToDraw`. Its docstring's first line says what the plot shows.
        height: of the figure, in inches.
    """

    name: str
    title: str
    draw: Callable[[Study, Figure], str]
    height: float = 2.8


@dataclass(frozen=True)
class Panel:
    """A plot in the page.

    Attributes:
        name: for links and ids.
        title: its heading.
        shows: what it shows, in a sentence.
        caption: what is to be known of it.
        svg: the picture.
    """

    name: str
    title: str
    shows: str
    caption: str
    svg: str


def draw(plot: Plot, study: Study) -> Panel:
    """The plot of a study.

    Raises:
        NothingToDraw: no run has what it shows.
    """
    shows = (plot.draw.__doc__ or "").strip().splitlines()[0]
    with canvas(plot.name, plot.height) as figure:
        caption = plot.draw(study, figure)
        svg = to_svg(figure, plot.name, f"{plot.title}: {shows}")
    return Panel(plot.name, plot.title, shows, caption, svg)
