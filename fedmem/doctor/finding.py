"""What a check is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from fedmem.core.stages import ALL_STAGES

if TYPE_CHECKING:
    from fedmem.doctor.case import Case


class Level(IntEnum):
    """How bad it is; also the exit code of the command."""

    OK = 0
    WARNING = 1
    PROBLEM = 2


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        level: how bad it is.
        figure: what was seen, with its numbers.
        advice: what to do; empty where all is well.
        check: the check's name; `examine` puts it there.
    """

    level: Level
    figure: str
    advice: str = ""
    check: str = ""


def ok(figure: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, figure)


def warning(figure: str, advice: str) -> Finding:
    """It can run, but may not be what is wanted."""
    return Finding(Level.WARNING, figure, advice)


def problem(figure: str, advice: str) -> Finding:
    """It cannot run, or its result is of no use."""
    return Finding(Level.PROBLEM, figure, advice)


@dataclass(frozen=True)
class Check:
    """One thing that the doctor examines.

    Attributes:
        name: as it is printed.
        stages: the stages that it matters to.
        quick: whether `fedmem.simulate` runs it before every run.
        after: whether it examines a finished run, and not one about to start.
        look: does it; a `FedmemError` that it raises is reported as a problem.
    """

    name: str
    stages: tuple[str, ...]
    quick: bool
    after: bool
    look: Callable[[Case], Finding]

    @property
    def subject(self) -> str:
        """The name of the module that it stands in."""
        return self.look.__module__.rpartition(".")[2]


ALL = tuple(ALL_STAGES)
LATER = tuple(name for name, stage in ALL_STAGES.items() if stage.requires)
CONTENT = tuple(name for name, stage in ALL_STAGES.items() if stage.content)
MEMORY = tuple(name for name, stage in ALL_STAGES.items() if stage.memory)


def check(
    name: str, stages: tuple[str, ...] = ALL, *, quick: bool = False, after: bool = False
) -> Callable[[Callable[[Case], Finding]], Check]:
    """Make a check of a function.

    Its docstring goes into `docs/doctor.md`: what is looked at, and after `Warning:` and `Problem:`
    when there is one.
    """
    return lambda look: Check(name, stages, quick, after, look)
