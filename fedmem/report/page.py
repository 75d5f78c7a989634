"""The report as one HTML page that needs nothing else: no network, no scripts, no other files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
from matplotlib.figure import Figure

from fedmem import __version__
from fedmem.core.settings import flattened
from fedmem.report import differences, share
from fedmem.report.canvas import NothingToDraw, canvas, to_svg
from fedmem.report.clients import draw_clients
from fedmem.report.curves import draw_bytes, draw_learning_curves
from fedmem.report.memory import draw_novelty, draw_occupancy
from fedmem.report.routing import draw_genres, draw_router
from fedmem.report.study import Study
from fedmem.report.table import HEADINGS, blocks_of


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


PLOTS = (
    Plot("learning", "Learning curves", draw_learning_curves),
    Plot("differences", "Differences", differences.draw_differences),
    Plot("slices", "Differences by slice", differences.draw_slices),
    Plot("clients", "Clients", draw_clients),
    Plot("bytes", "Bytes moved", draw_bytes),
    Plot("memory", "Memory", draw_occupancy, height=3.4),
    Plot("novelty", "Novelty", draw_novelty, height=2.5),
    Plot("router", "Router", draw_router),
    Plot("genres", "Router by genre", draw_genres),
)


@dataclass(frozen=True)
class Page:
    """The page and what it lacks.

    Attributes:
        html: the page.
        left_out: why each plot that is not there is not.
    """

    html: str
    left_out: list[str]


def make_page(study: Study, command: str) -> Page:
    """The page of a study; a plot whose data no run has is left out, and a line says why.

    Args:
        study: the runs.
        command: that makes the page.
    """
    panels: list[Panel] = []
    left_out: list[str] = []
    for plot in PLOTS:
        try:
            panels.append(draw(plot, study))
        except NothingToDraw as reason:
            left_out.append(f"{plot.title}: {reason}.")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(
        resources.files("fedmem.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    )
    shared, own = _settings(study)
    html = template.render(
        title=_title(study),
        summary=_summary(study),
        headings=HEADINGS,
        blocks=blocks_of(study),
        difference_headings=differences.HEADINGS,
        differences=[(contrast, differences.rows_of(contrast)) for contrast in study.contrasts],
        share_headings=share.HEADINGS,
        shares=share.rows_of(study),
        panels=panels,
        left_out=left_out,
        notes=study.notes,
        made_with=study.made_with,
        groups=study.groups,
        own=own,
        shared=shared,
        command=command,
        version=__version__,
    )
    return Page(html, left_out)


def draw(plot: Plot, study: Study) -> Panel:
    """The plot of a study.

    Raises:
        NothingToDraw: no run has what it shows.
    """
    with canvas(plot.name, plot.height) as figure:
        caption = plot.draw(study, figure)
        svg = to_svg(figure, plot.name, f"{plot.title}: {plot.shows}")
    return Panel(plot, caption, svg)


def _title(study: Study) -> str:
    data = dict.fromkeys(str(run.settings["data"]["name"]) for run in study.runs)
    return f"fedmem on {', '.join(data)}"


def _summary(study: Study) -> str:
    runs, groups = len(study.runs), len(study.groups)
    seeds = sorted({run.seed for run in study.runs})
    unfinished = sum(run.standing is not None for run in study.runs)
    parts = [
        _count(runs, "run"),
        _count(groups, "arm") if groups > 1 else "",
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}",
        f"{unfinished} unfinished" if unfinished else "",
    ]
    return " · ".join(filter(None, parts))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _settings(study: Study) -> tuple[list[tuple[str, Any]], list[tuple[str, list[Any]]]]:
    """Settings that all groups share, and those in which they differ, with a value a group."""
    found = [flattened(group.runs[0].settings) for group in study.groups]
    keys = [k for k in dict.fromkeys(k for own in found for k in own) if k != "output_dir"]
    values = {key: [own[key] for own in found if key in own] for key in keys}
    shared = {key: own[0] for key, own in values.items() if all(value == own[0] for value in own)}
    own = [(key, [each.get(key) for each in found]) for key in keys if key not in shared]
    return list(shared.items()), own
