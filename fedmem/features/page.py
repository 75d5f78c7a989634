"""The inspection as one picture, for a phone and for print."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from fedmem.core.files.atomic import replacing
from fedmem.core.plots.novelty import NOVELTY, draw_novelty_bars
from fedmem.core.plots.palette import BLUE, GREY, INK, PALE
from fedmem.features.inspection import NEAREST, Inspection

WIDTH, DPI = 6.4, 150
TITLE, BODY, SMALL = 10.5, 9.0, 8.5
TITLE_LENGTH = 68
"""Letters of a title that fit the page's width; more are cut."""


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
        color=INK,
    )
    grid = figure.add_gridspec(2, 1, height_ratios=heights)
    measures, neighbours = (figure.add_subfigure(grid[part]) for part in (0, 1))
    coverage, similarity, novelty = measures.subplots(3, 1, height_ratios=[rows, rows, 2.2])
    _draw_coverage(coverage, found)
    _draw_similarity(similarity, found)
    _draw_novelty(novelty, found)
    _draw_examples(neighbours.subplots(), found)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=DPI, format="png", facecolor="white")


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=TITLE, color=INK, weight="bold", pad=8)
    axes.tick_params(labelsize=BODY, colors=INK, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(PALE)


def _a_row_a_kind(axes: Axes, found: Inspection) -> None:
    names = [f"{kind.name} ({kind.width})" for kind in found.kinds]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.7)


def _draw_coverage(axes: Axes, found: Inspection) -> None:
    _dress(axes, "Items that have a vector, and interactions with them")
    _a_row_a_kind(axes, found)
    for place, kind in enumerate(found.kinds):
        for offset, share, what, colour in (
            (-0.18, kind.items, "of items", BLUE),
            (0.18, kind.interactions, "of interactions", PALE),
        ):
            y = place + offset
            axes.barh(y, share, 0.32, color=colour)
            axes.text(1.01, y, f"{share:.1%} {what}", va="center", fontsize=SMALL, color=INK)
    axes.set_xlim(0, 1.38)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def _draw_similarity(axes: Axes, found: Inspection) -> None:
    _dress(axes, "How alike neighbours in a history are, and random items")
    _a_row_a_kind(axes, found)
    axes.set_xlabel("mean cosine; difference with its 95% interval", fontsize=BODY, color=INK)
    measured = [(p, k.similarity) for p, k in enumerate(found.kinds)]
    measured = [(place, s) for place, s in measured if np.isfinite(s.difference)]
    for place, s in measured:
        axes.plot([s.random, s.neighbours], [place, place], color=PALE, zorder=1)
        axes.plot(s.random, place, "o", color=PALE, markersize=9)
        axes.plot(s.neighbours, place, "o", color=BLUE, markersize=9)
        axes.annotate(
            f"{s.difference:+.3f}  ({s.low:+.3f} … {s.high:+.3f})",
            (max(s.random, s.neighbours), place),
            (10, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            color=INK,
        )
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
        axes.annotate(
            word,
            (x, place),
            (4 if to_left else -4, 8),
            textcoords="offset points",
            ha="right" if to_left else "left",
            fontsize=SMALL,
            color=colour,
        )


def _draw_novelty(axes: Axes, found: Inspection) -> None:
    _dress(axes, "How novel the training interactions are")
    axes.set_xlabel(NOVELTY, fontsize=BODY, color=INK)
    words = f"memory.threshold=auto\ntakes {found.threshold:g}:\n{found.written:.1%} are as novel"
    draw_novelty_bars(axes, found.novelty, found.threshold, words, SMALL)


def _draw_examples(axes: Axes, found: Inspection) -> None:
    """A block an item: its nearest, the text's at the left and the picture's at the right."""
    _dress(axes, "Nearest items, with their cosine")
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlim(0, 1)
    kinds = [kind.name for kind in found.kinds if kind.name != "both"]
    line = 0.5
    for column, kind in enumerate(kinds):
        axes.text(column / len(kinds), line, f"by {kind}", fontsize=SMALL, color=GREY)
    for example in found.examples:
        line += 1.4
        axes.text(0, line, _cut(example.title, TITLE_LENGTH), fontsize=BODY, color=BLUE)
        for column, kind in enumerate(kinds):
            length = TITLE_LENGTH // len(kinds)
            for place, (title, cosine) in enumerate(example.nearest[kind], 1):
                text = f"{cosine:.2f}  {_cut(title, length)}"
                axes.text(column / len(kinds), line + place, text, fontsize=SMALL, color=INK)
        line += NEAREST
    axes.set_ylim(line + 0.5, 0)


def _cut(title: str, length: int) -> str:
    return title if len(title) <= length else title[: length - 1] + "…"
