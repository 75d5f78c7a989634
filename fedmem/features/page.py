"""The inspection as one picture, for a phone and for print."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedmem.features.inspection import NEAREST, Inspection
from fedmem.memory.novelty import BINS

SIZE, DPI = (6.4, 11.0), 150
INK, GREY, RANDOM, NEAR = "#1b2a33", "#8a979e", "#b4bfc5", "#0072b2"
WRITTEN = "#d55e00"
TITLE_LENGTH = 34


def draw_page(found: Inspection, path: Path) -> None:
    """Write the page as PNG: complete under its name, or not at all."""
    figure = Figure(figsize=SIZE, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.1)  # type: ignore[union-attr]
    kinds = len(found.kinds)
    heights = [0.5 + 0.35 * kinds, 0.5 + 0.35 * kinds, 2.0, 0.4 + 0.62 * len(found.examples)]
    axes = figure.subplots(4, 1, height_ratios=heights)
    figure.suptitle(
        f"Item features of {found.data}\n"
        f"{found.users:,} users · {found.items:,} items · {found.interactions:,} interactions",
        fontsize=12,
        color=INK,
    )
    _draw_coverage(axes[0], found)
    _draw_similarity(axes[1], found)
    _draw_novelty(axes[2], found)
    _draw_examples(axes[3], found)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, dpi=DPI, format="png", facecolor="white")
    os.replace(partial, path)


def _dress(axes: Axes, title: str, found: Inspection | None = None) -> None:
    axes.set_title(title, loc="left", fontsize=10.5, color=INK, weight="bold")
    axes.tick_params(labelsize=9, colors=INK, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    if found is not None:
        names = [f"{kind.name} ({kind.width})" for kind in found.kinds]
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)


def _draw_coverage(axes: Axes, found: Inspection) -> None:
    _dress(axes, "Items that have a vector, and interactions with them", found)
    for place, kind in enumerate(found.kinds):
        axes.barh(place - 0.17, kind.items, 0.3, color=NEAR)
        axes.barh(place + 0.17, kind.interactions, 0.3, color=RANDOM)
        for offset, share, what in (
            (-0.17, kind.items, "items"),
            (0.17, kind.interactions, "interactions"),
        ):
            axes.text(
                1.01, place + offset, f"{share:.1%} {what}", va="center", fontsize=8.5, color=INK
            )
    axes.set_xlim(0, 1.35)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def _draw_similarity(axes: Axes, found: Inspection) -> None:
    _dress(axes, "Mean cosine: neighbours in a history, and random items", found)
    for place, kind in enumerate(found.kinds):
        s = kind.similarity
        axes.plot([s.random, s.neighbours], [place, place], color=GREY, zorder=1)
        axes.plot(s.random, place, "o", color=RANDOM, markersize=9, label="random")
        axes.plot(s.neighbours, place, "o", color=NEAR, markersize=9, label="neighbours")
        axes.annotate(
            f"{s.difference:+.3f}  [{s.low:+.3f}, {s.high:+.3f}]",
            (max(s.random, s.neighbours), place),
            (10, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=INK,
        )
    ends = [x for kind in found.kinds for x in (kind.similarity.neighbours, kind.similarity.random)]
    span = max(np.ptp(ends), 0.02) if np.isfinite(ends).all() else 1.0
    if np.isfinite(ends).all():
        axes.set_xlim(min(ends) - 0.08 * span, max(ends) + 0.75 * span)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[:2],
        labels[:2],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=2,
        fontsize=8.5,
        frameon=False,
        borderpad=0,
        handletextpad=0.2,
    )


def _draw_novelty(axes: Axes, found: Inspection) -> None:
    _dress(axes, "Novelty of the training interactions")
    edges = np.linspace(0, 2, BINS + 1)
    share = found.novelty / max(found.novelty.sum(), 1)
    written = edges[:-1] >= found.threshold - 1e-9
    for chosen, colour in ((~written, RANDOM), (written, WRITTEN)):
        axes.bar(edges[:-1][chosen], share[chosen], 2 / BINS, align="edge", color=colour)
    axes.axvline(found.threshold, color=WRITTEN, linewidth=1)
    axes.annotate(
        f"memory.threshold=auto: {found.threshold:g}\n{found.written:.1%} are as novel",
        (found.threshold, share.max()),
        (6, 0),
        textcoords="offset points",
        va="top",
        fontsize=8.5,
        color=WRITTEN,
    )
    seen = np.flatnonzero(found.novelty)
    if len(seen):
        axes.set_xlim(max(edges[seen[0]] - 0.02, 0), min(max(edges[seen[-1] + 1], 1) + 0.2, 2))
    axes.set_yticks([])
    axes.set_xlabel("1 − largest cosine to the user's latest items", fontsize=9, color=INK)


def _draw_examples(axes: Axes, found: Inspection) -> None:
    """An item a block, a column a kind, the nearest first."""
    _dress(axes, "Nearest items, with their cosine")
    axes.axis("off")
    axes.set_title("Nearest items, with their cosine", loc="left")
    lines = sum(2 + NEAREST for _ in found.examples)
    axes.set_ylim(lines, 0)
    axes.set_xlim(0, 1)
    line = 0.6
    shown = [kind.name for kind in found.kinds if kind.name != "both"]
    for example in found.examples:
        axes.text(0, line, _short(example.title, 2), fontsize=9, color=INK, weight="bold")
        for column, kind in enumerate(shown):
            left = column / len(shown)
            for place, (title, cosine) in enumerate(example.nearest[kind], 1):
                text = f"{cosine:.2f}  {_short(title, 1 if len(shown) > 1 else 2)}"
                axes.text(left, line + place, text, fontsize=8, color=INK)
            axes.text(
                left, line + NEAREST + 0.95, kind, fontsize=7.5, color=GREY, style="italic"
            )
        line += NEAREST + 2


def _short(title: str, columns: int) -> str:
    length = TITLE_LENGTH * columns
    return title if len(title) <= length else title[: length - 1] + "…"
