"""The users' memories: how full they are, how often they are written to, and what is novel."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fedmem.core.memory.kernel import BINS
from fedmem.core.plots import GREY, NOVELTY, draw_novelty_bars
from fedmem.report.canvas import SMALL, NothingToDraw, legend, style_of
from fedmem.report.study import Study


def draw_occupancy(study: Study, figure: Figure) -> str:
    """How full both tiers are, and long-term writes per interaction, over the rounds."""
    tiers, ratio = figure.subplots(2, 1, sharex=True)
    targets: set[float] = set()
    for place, group in enumerate(study.groups):
        records = [record for record in group.runs[0].rounds if record.get("memory")]
        records = [record for record in records if record["stage"] == records[-1]["stage"]]
        if not records:
            continue
        style = style_of(place)
        x = [record["round"] for record in records]
        memory = [record["memory"] for record in records]
        for tier, width, name, label in (
            ("st", 0.8, "short-term", None),
            ("lt", 1.6, "long-term", group.name),
        ):
            share = [m[f"{tier}_size"] / max(m[f"{tier}_capacity"], 1) for m in memory]
            tiers.plot(x, share, **style, linewidth=width, label=label)
            if not targets:
                _name_line(tiers, x[-1], share[-1], name)
        written = [(m["promotions"] + m["merges"]) / max(m["ingested"], 1) for m in memory]
        ratio.plot(x, written, **style)
        targets.add(group.runs[0].settings["memory"]["write_ratio"])
    if not targets:
        raise NothingToDraw("no run has a stage that reads the memory")
    for target in targets:
        ratio.axhline(target, color=GREY, linewidth=0.8, linestyle=":")
        _name_line(ratio, 0, target, "target of threshold=auto", at="left")
    tiers.set_yticks([0, 0.5, 1])
    for axes in (tiers, ratio):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylim(0, max(1.02 if axes is tiers else 0, 1.25 * axes.dataLim.y1))
        axes.grid(axis="y")
    tiers.set_ylabel("full")
    ratio.set_ylabel("written")
    ratio.xaxis.set_major_locator(MaxNLocator(integer=True))
    ratio.set_xlabel("round of the stage that reads the memory")
    legend(figure, tiers)
    return (
        "Of all users together, at the validations of the first seed. An interaction enters once, "
        "so the lines are flat where no new ones come in between rounds."
    )


def draw_novelty(study: Study, figure: Figure) -> str:
    """Novelty of the users' training interactions, and the threshold from which one is written."""
    found = [(g.name, run.seed, run.novelty) for g in study.groups for run in g.runs if run.novelty]
    if not found:
        raise NothingToDraw(
            "no run has looked at novelty, as stage 3 does with memory.threshold=auto"
        )
    name, seed, novelty = found[0]
    counts, threshold = np.array(novelty["counts"]), float(novelty["threshold"])
    axes = figure.subplots()
    share = counts[round(threshold * BINS / 2) :].sum() / max(counts.sum(), 1)
    words = f"threshold {threshold:g}:\n{share:.1%} are as novel"
    draw_novelty_bars(axes, counts, threshold, words, SMALL)
    axes.set_xlabel(NOVELTY)
    axes.spines["left"].set_visible(False)
    of = f", {name}, seed {seed}" if len(found) > 1 else ""
    return f"{counts.sum():,} interactions, from the nodes' summed histograms{of}."


def _name_line(axes: Axes, x: float, y: float, name: str, at: str = "right") -> None:
    axes.annotate(
        name, (x, y), (0, 3), textcoords="offset points", ha=at, fontsize=SMALL, color=GREY
    )
