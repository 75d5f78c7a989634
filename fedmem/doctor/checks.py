"""All checks in their order, and how they are run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import ModuleType

from fedmem.core.errors import FedmemError
from fedmem.doctor import checkpoints, data, environment, features, outcome, resources
from fedmem.doctor.case import Case
from fedmem.doctor.finding import CONTENT, Check, Finding, Level, problem

SUBJECTS = (data, features, checkpoints, resources, environment, outcome)
CHECKS = tuple(one for about in SUBJECTS for one in vars(about).values() if isinstance(one, Check))


def quick_checks(*subjects: ModuleType) -> list[Check]:
    """Those before every run, of some of `SUBJECTS`."""
    found = [one for about in subjects for one in vars(about).values() if isinstance(one, Check)]
    return [one for one in found if one.quick]


def examine(case: Case, checks: Iterable[Check] = CHECKS) -> Iterator[Finding]:
    """Run the checks that matter to the stages of a run, before it starts or after it.

    A mistake that several checks meet is reported once.
    """
    stages = {stage.name for stage in case.stages}
    reported: set[str] = set()
    for one in checks:
        matters = stages.intersection(one.stages) or (
            one.stages == CONTENT and case.settings.reads_content
        )
        if not matters or one.after != bool(case.results):
            continue
        try:
            finding = one.look(case)
        except FedmemError as error:
            if str(error) in reported:
                continue
            reported.add(str(error))
            figure, *advice = str(error).split("\n")
            finding = problem(figure, " ".join(advice))
        yield replace(finding, check=one.name)


def preflight(case: Case) -> list[Finding]:
    """The quick checks before a run: what it should be warned of.

    Raises:
        FedmemError: the first problem.
    """
    warnings = []
    for finding in examine(case, quick_checks(*SUBJECTS)):
        if finding.level is Level.PROBLEM:
            raise FedmemError("\n".join(filter(None, (finding.figure, finding.advice))))
        if finding.level is Level.WARNING:
            warnings.append(finding)
    return warnings
