"""What several pages draw alike: their colours, and the histogram of novelty.

The colours of `SERIES` differ for any kind of colour vision: M. Okabe and K. Ito's, and two
more. The report's page has shades of its own for each of them, light and dark (`page.html.j2`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from fedmem.core.memory.kernel import BINS

INK, GREY, PALE = "#1b2a33", "#6f7d85", "#b4bfc5"
SERIES = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#7f3c8d",
    "#8c564b",
    "#56b4e9",
)
BLUE, RED = SERIES[:2]
NOVELTY = "novelty: 1 − largest cosine to the user's latest items"
ROOM = 0.5
"""Novelty right of the threshold that its words take."""


def draw_novelty_bars(
    axes: Axes, counts: npt.NDArray[np.integer], threshold: float, words: str, size: float
) -> None:
    """Draw how many interactions [BINS] are how novel, from 0 to 2, with words of a size in points.

    What is at least as novel as the threshold, and so is written to the memory, stands out.
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
