"""The inspection as one picture, for a phone and for print."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from fedmem.core.files.atomic import replacing
from fedmem.core.plots import BLUE, GREY, INK, NOVELTY, PALE, draw_novelty_bars
from fedmem.features.inspection import NEAREST, Inspection

WIDTH, DPI = 6.4, 150
BODY, SMALL = 9.0, 8.5
STYLE: dict[Any, Any] = {
    "font.size": SMALL,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlepad": 8,
    "axes.edgecolor": PALE,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.labelsize", "xtick.labelsize", "ytick.labelsize"), BODY),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 0),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "axes.spines.left"), False),
}
TITLE_LENGTH = 68
"""Letters of a title that fit the page's width; more are cut."""


@mpl.rc_context(STYLE)
def draw_page(found: Inspection, path: Path) -> None:
    """Write the page as PNG: complete under its name, or not at all."""
    rows = 0.6 + 0.36 * len(found.kinds)  # inches of a panel with a row a kind
    lines = 1 + (NEAREST + 1.4) * len(found.examples)
    heights = [2 * rows + 3.2, 0.4 + 0.17 * lines]
    margins = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.1)
    figure = Figure(figsize=(WIDTH, 1.0 + sum(heights)), layout=margins)
    figure.suptitle(
        f"Item features of {found.data}\n"
        f"{found.users:,} users · {found.items:,} items · {found.interactions:,} interactions",
        fontsize=12,
    )
    grid = figure.add_gridspec(2, 1, height_ratios=heights)
    measures, neighbours = (figure.add_subfigure(grid[part]) for part in (0, 1))
    coverage, similarity, novelty = measures.subplots(3, 1, height_ratios=[rows, rows, 2.2])
    _draw_coverage(coverage, found)
    _draw_similarity(similarity, found)
    novelty.set_title("How novel the training interactions are")
    novelty.set_xlabel(NOVELTY)
    words = f"memory.threshold=auto\ntakes {found.threshold:g}:\n{found.written:.1%} are as novel"
    draw_novelty_bars(novelty, found.novelty, found.threshold, words, SMALL)
    _draw_examples(neighbours.subplots(), found)
    with replacing(path) as partial_file:
        figure.savefig(partial_file, dpi=DPI, format="png", facecolor="white")


def _a_row_a_kind(axes: Axes, found: Inspection) -> None:
    names = [f"{kind.name} ({kind.width})" for kind in found.kinds]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.7)


def _draw_coverage(axes: Axes, found: Inspection) -> None:
    axes.set_title("Items that have a vector, and interactions with them")
    _a_row_a_kind(axes, found)
    for place, kind in enumerate(found.kinds):
        for y, share, what, colour in (
            (place - 0.18, kind.items, "of items", BLUE),
            (place + 0.18, kind.interactions, "of interactions", PALE),
        ):
            axes.barh(y, share, 0.32, color=colour)
            axes.text(1.01, y, f"{share:.1%} {what}", va="center")
    axes.set_xlim(0, 1.38)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def _draw_similarity(axes: Axes, found: Inspection) -> None:
    axes.set_title("How alike neighbours in a history are, and random items")
    axes.set_xlabel("mean cosine; difference with its 95% interval")
    _a_row_a_kind(axes, found)
    write = partial(axes.annotate, textcoords="offset points")
    measured = [(place, kind.similarity) for place, kind in enumerate(found.kinds)]
    measured = [(place, s) for place, s in measured if np.isfinite(s.difference)]
    for place, s in measured:
        axes.plot([s.random, s.neighbours], [place, place], color=PALE, zorder=1)
        axes.plot(s.random, place, "o", color=PALE, markersize=9)
        axes.plot(s.neighbours, place, "o", color=BLUE, markersize=9)
        interval = f"{s.difference:+.3f}  ({s.low:+.3f} … {s.high:+.3f})"
        write(interval, (max(s.random, s.neighbours), place), (10, 0), va="center")
    if not measured:
        return
    ends = [end for _, s in measured for end in (s.random, s.neighbours)]
    span = max(ends) - min(ends)
    axes.set_xlim(min(ends) - 0.3 * span, max(ends) + 0.85 * span)
    place, s = measured[0]
    for x, to_left, word, colour in (
        (s.random, s.random <= s.neighbours, "random", GREY),
        (s.neighbours, s.random > s.neighbours, "neighbours", BLUE),
    ):
        side = "right" if to_left else "left"
        write(word, (x, place), (4 if to_left else -4, 8), ha=side, color=colour)


def _draw_examples(axes: Axes, found: Inspection) -> None:
    """A block an item: its nearest, the text's at the left and the picture's at the right."""
    axes.set_title("Nearest items, with their cosine")
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlim(0, 1)
    kinds = [kind.name for kind in found.kinds if kind.name != "both"]
    line = 0.5
    for column, kind in enumerate(kinds):
        axes.text(column / len(kinds), line, f"by {kind}", color=GREY)
    for example in found.examples:
        line += 1.4
        axes.text(0, line, _cut(example.title, TITLE_LENGTH), fontsize=BODY, color=BLUE)
        for column, kind in enumerate(kinds):
            for place, (title, cosine) in enumerate(example.nearest[kind], 1):
                text = f"{cosine:.2f}  {_cut(title, TITLE_LENGTH // len(kinds))}"
                axes.text(column / len(kinds), line + place, text)
        line += NEAREST
    axes.set_ylim(line + 0.5, 0)


def _cut(title: str, length: int) -> str:
    return title if len(title) <= length else title[: length - 1] + "…"
