"""How the validation goes: over the rounds, and over the bytes that were moved for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedmem.core.plots.palette import GREY
from fedmem.report.canvas import NothingToDraw, legend, style_of
from fedmem.report.runs import RecordedRun, moved
from fedmem.report.study import Study
from fedmem.runs.records import SELECTED_BY

Values = npt.NDArray[np.float64]

AXIS = "validation HR@10, sampled"


@dataclass(frozen=True)
class Curve:
    """A stage of a run.

    Attributes:
        rounds: [n] of its validations, counted through the stages.
        bytes: [n] moved until then, in this stage and those that it starts from.
        values: [n] HR@10.
    """

    rounds: Values
    bytes: Values
    values: Values


def draw_learning_curves(study: Study, figure: Figure) -> str:
    """HR@10 on the validation items over the rounds of all stages."""
    axes = figure.subplots()
    _draw(study, axes, lambda curve: curve.rounds)
    for round_ in _stage_starts(study):
        axes.axvline(round_, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlabel("round, counted through the stages")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, axes)
    dotted = "The next stage starts at a dotted line." if _stage_starts(study) else ""
    return f"{_legend_text(study)}{dotted}"


def draw_bytes(study: Study, figure: Figure) -> str:
    """HR@10 on the validation items over the bytes of all training messages and replies."""
    axes = figure.subplots()
    _draw(study, axes, lambda curve: curve.bytes / 1e6)
    if not axes.dataLim.x1 > 0:
        raise NothingToDraw("no run moved anything")
    axes.set_xlabel("MB moved, to the nodes and back, all of them together")
    legend(figure, axes)
    return (
        f"{_legend_text(study)}A node brings its users' mean change, so what is moved "
        "depends on the nodes that share them."
    )


def _legend_text(study: Study) -> str:
    seeds = max(len(group.runs) for group in study.groups)
    lines = "A colour an arm; a line ends where a stage does. " if len(study.groups) > 1 else ""
    if seeds > 1:
        lines = f"Thin lines are seeds, up to {seeds}; the thick one is their mean. {lines}"
    return lines


def _stage_starts(study: Study) -> list[int]:
    """Rounds after which a stage starts, but the first, where all groups have the same."""
    found = {
        tuple(study.before[group.runs[0].folder, stage].rounds for stage in group.stages())
        for group in study.groups
    }
    return [start for start in found.pop() if start] if len(found) == 1 else []


def _draw(study: Study, axes: Axes, along: Callable[[Curve], Values]) -> None:
    many = len(study.groups) > 1
    for place, group in enumerate(study.groups):
        named = False
        for number, stage in enumerate(group.stages()):
            found = [(run, curve) for run in group.runs if (curve := _curve(study, run, stage))]
            if not found:
                continue
            style = style_of(place if many else number)
            if len(found) > 1:
                for _, curve in found:
                    axes.plot(along(curve), curve.values, **style, linewidth=0.7, alpha=0.45)
            ended = [curve for run, curve in found if run.result_of(stage)]
            curves = ended or [curve for _, curve in found]
            shared = min(len(curve.values) for curve in curves)
            x = np.mean([along(curve)[:shared] for curve in curves], axis=0)
            y = np.mean([curve.values[:shared] for curve in curves], axis=0)
            label = stage if not many else None if named else group.name
            axes.plot(x, y, **style, label=label, marker="o" if shared == 1 else None)
            named = True
    if not axes.lines:
        raise NothingToDraw("no run has validated a round yet")
    axes.set_ylabel(AXIS)
    axes.grid(axis="y")


def _curve(study: Study, run: RecordedRun, stage: str) -> Curve | None:
    """None where the stage has no validation."""
    found = list(_validations(study, run, stage))
    return Curve(*np.array(found).T) if found else None


def _validations(study: Study, run: RecordedRun, stage: str) -> Iterator[tuple[float, ...]]:
    rounds, spent = study.before[run.folder, stage]
    for record in run.rounds_of(stage):
        spent += moved(record)
        if record["validation"]:
            yield rounds + record["round"], spent, record["validation"][SELECTED_BY]
