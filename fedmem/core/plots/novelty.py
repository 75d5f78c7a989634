"""The histogram of novelty with the threshold, on the page of features and in the report."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from fedmem.core.memory.novelty import BINS
from fedmem.core.plots.palette import PALE, RED

NOVELTY = "novelty: 1 − largest cosine to the user's latest items"
ROOM = 0.5
"""Novelty right of the threshold that its words take."""


def draw_novelty_bars(
    axes: Axes, counts: npt.NDArray[np.integer], threshold: float, words: str, size: float
) -> None:
    """Draw it; what is at least as novel as the threshold stands out.

    Args:
        axes: where.
        counts: [BINS] interactions, of novelty from 0 to 2.
        threshold: novelty from which an interaction is written.
        words: said beside it.
        size: of the words, in points.
    """
    edges = np.linspace(0, 2, BINS + 1)
    written = np.arange(BINS) >= round(threshold * BINS / 2)
    for chosen, colour in ((~written, PALE), (written, RED)):
        axes.bar(edges[:-1][chosen], counts[chosen], 2 / BINS, align="edge", color=colour)
    axes.axvline(threshold, color=RED, linewidth=1)
    axes.annotate(
        words,
        (threshold, 1),
        (6, 0),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        fontsize=size,
        color=RED,
    )
    seen = np.flatnonzero(counts)
    if len(seen):
        axes.set_xlim(edges[seen[0]] - 0.02, max(edges[seen[-1] + 1], threshold + ROOM))
    axes.set_yticks([])
