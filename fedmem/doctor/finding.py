"""What a check is, what it finds, and how that is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from fedmem.core.stages import ALL_STAGES

if TYPE_CHECKING:
    from fedmem.doctor.case import Case


class Level(IntEnum):
    """How bad it is; also the exit code of the command."""

    OK = 0
    WARNING = 1
    PROBLEM = 2


STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    level: Level
    figure: str
    """What was seen, with its numbers."""
    advice: str = ""
    """What to do; empty where all is well."""
    check: str = ""
    """The check's name; `examine` puts it there."""


def ok(figure: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, figure)


def warn_if(condition: bool, figure: str, advice: str) -> Finding:
    """All is well, unless the condition holds: then it can run, but may not be what is wanted."""
    return Finding(Level.WARNING, figure, advice) if condition else ok(figure)


def problem(figure: str, advice: str) -> Finding:
    """It cannot run, or its result is of no use."""
    return Finding(Level.PROBLEM, figure, advice)


@dataclass(frozen=True)
class Check:
    """One thing that the doctor examines."""

    name: str
    stages: tuple[str, ...]
    """The stages that it matters to."""
    quick: bool
    """Whether `fedmem.simulate` runs it before every run."""
    after: bool
    """Whether it examines a finished run, and not one about to start."""
    look: Callable[[Case], Finding]
    """A `FedmemError` that it raises is reported as a problem."""


ALL = tuple(ALL_STAGES)
LATER = tuple(name for name, stage in ALL_STAGES.items() if stage.requires)
CONTENT = tuple(name for name, stage in ALL_STAGES.items() if stage.reads_content)
MEMORY = tuple(name for name, stage in ALL_STAGES.items() if stage.memory)


def check(
    name: str, stages: tuple[str, ...] = ALL, *, quick: bool = False, after: bool = False
) -> Callable[[Callable[[Case], Finding]], Check]:
    """Make a check of a function.

    Its docstring goes into `docs/doctor.md`: what is looked at, and after `Warning:` and `Problem:`
    when there is one.
    """
    return lambda look: Check(name, stages, quick, after, look)


def print_findings(findings: Iterable[Finding], console: Console) -> Level:
    """Print findings as they come; the worst of their levels."""
    worst = Level.OK
    for finding in findings:
        worst = max(worst, finding.level)
        line = Text(f"{finding.level.name.lower():<8}", STYLES[finding.level])
        line.append(f"{finding.check}: {finding.figure.removesuffix('.')}.", "default")
        if finding.advice:
            line.append(f" To do: {finding.advice}", "default")
        console.print(line, soft_wrap=True)
    return worst
