"""How a plot looks, and how it gets into a page: as SVG in the page's own colours and letters.

Colours are drawn as fixed ones and become the variables of the page's style (`page.html.j2`), so
that a plot follows it into the dark and onto paper.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from xml.sax.saxutils import quoteattr

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedmem.core.plots import GREY, INK, PALE, SERIES

WIDTH = 4.2
"""Inches; on a phone this comes close to the screen's width, so letters keep their size there."""
SIZE, SMALL = 9.5, 8.5
ROW = 0.16
"""Inches of a line of small letters."""

VARIABLES = {INK: "--ink", GREY: "--grey", PALE: "--pale"} | {
    colour: f"--series-{place}" for place, colour in enumerate(SERIES)
}
DASHES = ("-", "--", ":", "-.")


class NothingToDraw(Exception):
    """No run has what the plot shows; the message says what is missing, without a full stop."""


@contextmanager
def canvas(name: str, height: float) -> Iterator[Figure]:
    """A figure to draw on; `to_svg` takes it from within."""
    style: dict[Any, Any] = {
        "svg.fonttype": "none",  # letters stay letters
        "svg.hashsalt": name,
        "font.family": "DejaVu Sans",
        "font.size": SIZE,
        "axes.titlesize": SIZE,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "legend.fontsize": SMALL,
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.edgecolor": PALE,
        "grid.color": PALE,
        "grid.linewidth": 0.4,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "legend.frameon": False,
        "lines.linewidth": 1.6,
    }
    with mpl.rc_context(style):
        yield Figure(figsize=(WIDTH, height), layout="constrained")


def style_of(place: int) -> dict[str, Any]:
    """Colour and dashes of the n-th series: as many differ as there are of both."""
    colour, dash = place % len(SERIES), place // len(SERIES)
    return {"color": SERIES[colour], "linestyle": DASHES[dash % len(DASHES)]}


def legend(figure: Figure, axes: Axes) -> None:
    """What each colour means, above the plot; nothing where there is only one."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        longest = max(map(len, labels))
        columns = max(1, min(len(labels), 52 // (longest + 5)))
        rows = math.ceil(len(labels) / columns)
        figure.set_figheight(figure.get_figheight() + ROW * (rows - 1))
        figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def wrapped(name: str) -> str:
    """A name on lines short enough to stand beside a plot."""
    return "\n".join(textwrap.wrap(name, 20))


def height_of(names: Sequence[str], least: float) -> float:
    """Inches that rows of these names take beside a plot, each at least so many."""
    lines = max((wrapped(name).count("\n") + 1 for name in names), default=1)
    return len(names) * max(least, ROW * (lines + 0.5))


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Rows from the top down at 0, 1, …, with their names in the place of an axis."""
    axes.set_yticks(range(len(names)), [wrapped(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")


def to_svg(figure: Figure, name: str, says: str) -> str:
    """The figure as an element of a page: no size of its own, its ids begin with the plot's name.

    What it `says` is for readers who cannot see it.
    """
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(file, format="svg", metadata=nothing)
    head, _, rest = file.getvalue().partition("<svg")[2].partition(">")
    (box,) = re.findall(r'viewBox="[^"]+"', head)
    rest = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", rest)
    for colour, variable in VARIABLES.items():
        rest = rest.replace(colour, f"var({variable})")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{box} role="img" aria-label={quoteattr(says)}>{rest}'
    )
