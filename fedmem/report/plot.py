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
        draw: draws a study on a figure and returns the caption; raises `NothingToDraw`. Its
            docstring's first line says what the plot shows.
        height: of the figure, in inches.
    """

    name: str
    title: str
    draw: Callable[[Study, Figure], str]
    height: float = 2.8

    @property
    def shows(self) -> str:
        """What it shows, in a sentence."""
        return (self.draw.__doc__ or "").strip().splitlines()[0]


@dataclass(frozen=True)
class Panel:
    """A plot in the page.

    Attributes:
        plot: which.
        caption: what a reader needs to know of it.
        svg: the picture.
    """

    plot: Plot
    caption: str
    svg: str


def draw(plot: Plot, study: Study) -> Panel:
    """The plot of a study.

    Raises:
        NothingToDraw: no run has what it shows.
    """
    with canvas(plot.name, plot.height) as figure:
        caption = plot.draw(study, figure)
        svg = to_svg(figure, plot.name, f"{plot.title}: {plot.shows}")
    return Panel(plot, caption, svg)
