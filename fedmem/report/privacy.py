"""What private runs have spent of their budgets: the promise in a table, and ε by the round."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedmem.core.plots import GREY
from fedmem.report.canvas import NothingToDraw, legend, style_of
from fedmem.report.groups import RunGroup
from fedmem.report.runs import RecordedRun
from fedmem.report.study import Study

PRIVACY_HEADINGS = ["stage", "privacy", "schedule", "figures", "ε", "δ"]


def private(run: RecordedRun) -> bool:
    """Whether an ε holds for the run; none was known to earlier versions."""
    return any(result.get("epsilon") is not None for result in run.results)


def privacy_rows(group: RunGroup) -> Iterator[list[str]]:
    """A row for each stage of private runs: what was promised, and what had been spent after it."""
    for stage in group.stages():
        spent = [
            float(result["epsilon"])
            for run in group.runs
            if (result := run.result_of(stage)) and result.get("epsilon") is not None
        ]
        if spent:
            asked = group.runs[0].settings["privacy"]
            budget = f"{max(spent):.2f} of {asked['epsilon']:g}"
            words = [asked[name] for name in ("mode", "schedule", "figures")]
            yield [stage, *words, budget, f"{asked['delta']:g}"]


def draw_spending(study: Study, figure: Figure) -> str:
    """ε that had been spent after each round, of the whole run and what it started from."""
    axes = figure.subplots()
    place, budgets = 0, set()
    for group in study.groups:
        run = next((run for run in group.runs if private(run)), None)
        if run is None:
            continue
        for number, stage in enumerate(run.stages()):
            first = study.before[run.folder, stage].rounds
            points = [
                (first + record["round"], record["epsilon"])
                for record in run.rounds_of(stage)
                if record.get("epsilon") is not None
            ]
            label = None if number else group.name
            axes.plot(*zip(*points, strict=True), **style_of(place), label=label)
        budgets.add(run.settings["privacy"]["epsilon"])
        place += 1
    if not axes.lines:
        raise NothingToDraw("no run is private: try privacy=central")
    for budget in budgets:
        axes.axhline(budget, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("ε spent")
    axes.set_xlabel("round, counted through the stages")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    legend(figure, axes)
    return "Of the first private run of each arm; a dotted line is a budget."
