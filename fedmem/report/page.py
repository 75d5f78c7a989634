"""The report as one HTML page that needs nothing else: no network, no scripts, no other files."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jinja2
from matplotlib.figure import Figure

from fedmem import __version__
from fedmem.core.settings import flattened
from fedmem.report.canvas import NothingToDraw, canvas, to_svg
from fedmem.report.curves import draw_bytes, draw_clients, draw_learning_curves
from fedmem.report.differences import draw_differences, draw_slices
from fedmem.report.groups import differing
from fedmem.report.memory import draw_novelty, draw_occupancy
from fedmem.report.privacy import draw_spending
from fedmem.report.routing import draw_genres, draw_router
from fedmem.report.study import Study
from fedmem.report.tables import tables_of


class Plot(NamedTuple):
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


PLOTS = (
    Plot("learning", "Learning curves", draw_learning_curves),
    Plot("differences", "Differences", draw_differences),
    Plot("slices", "Differences by slice", draw_slices),
    Plot("clients", "Clients", draw_clients),
    Plot("bytes", "Bytes moved", draw_bytes),
    Plot("privacy", "Privacy", draw_spending, height=2.5),
    Plot("memory", "Memory", draw_occupancy, height=3.4),
    Plot("novelty", "Novelty", draw_novelty, height=2.5),
    Plot("router", "Router", draw_router),
    Plot("genres", "Router by genre", draw_genres),
)


def make_page(study: Study, command: str) -> tuple[str, list[str]]:
    """The page of a study as HTML, with the command that makes it.

    A plot whose data no run has is left out; the lines that say why are returned too.
    """
    panels: list[tuple[Plot, str, str, str]] = []
    left_out: list[str] = []
    for plot in PLOTS:
        shows = (plot.draw.__doc__ or "").splitlines()[0]
        try:
            with canvas(plot.name, plot.height) as figure:
                caption = plot.draw(study, figure)
                svg = to_svg(figure, plot.name, f"{plot.title}: {shows}")
            panels.append((plot, shows, caption, svg))
        except NothingToDraw as reason:
            left_out.append(f"{plot.title}: {reason}.")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fedmem.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    settings = [flattened(group.runs[0].settings) for group in study.groups]
    apart = [key for key in differing(settings) if key != "output_dir"]
    hidden = {*apart, "output_dir"}
    shared = {k: v for own in settings for k, v in own.items() if k not in hidden}
    html = environment.get_template("page.html.j2").render(
        study=study,
        tables=tables_of(study),
        panels=panels,
        left_out=left_out,
        settings=settings,
        apart=apart,
        shared=shared,
        command=command,
        version=__version__,
    )
    return html, left_out
