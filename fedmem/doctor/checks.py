"""All checks in their order, and how they are run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from fedmem.core.errors import FedmemError
from fedmem.doctor import checkpoints, data, environment, features, outcome, resources
from fedmem.doctor.case import Case
from fedmem.doctor.finding import Check, Finding, Level, problem

CHECKS: tuple[Check, ...] = (
    data.interactions,
    data.histories,
    data.round_size,
    data.rankings,
    data.loss,
    features.features,
    features.coverage,
    features.duplicates,
    features.norms,
    features.quality,
    features.threshold,
    checkpoints.checkpoints,
    checkpoints.values,
    checkpoints.item_embeddings,
    checkpoints.trained_parameters,
    checkpoints.alignment,
    resources.memory,
    resources.disk,
    environment.versions,
    environment.threads,
    environment.trackers,
    environment.ray,
    environment.gpu,
    outcome.figures,
    outcome.best_round,
    outcome.stage_2,
    outcome.stage_3,
    outcome.memory_filled,
    outcome.router,
    outcome.load_balance,
    outcome.memory_counts,
)


def examine(case: Case, checks: Iterable[Check] = CHECKS) -> Iterator[Finding]:
    """Run the checks that matter to the stages of a run, before it starts or after it.

    A mistake that several checks meet is reported once.
    """
    stages = {stage.name for stage in case.stages}
    reported: set[str] = set()
    for one in checks:
        if not stages.intersection(one.stages) or one.after != bool(case.results):
            continue
        try:
            finding = one.look(case)
        except FedmemError as error:
            if str(error) in reported:
                continue
            reported.add(str(error))
            figure, _, advice = str(error).partition("\n")
            finding = problem(figure, advice.replace("\n", " "))
        yield replace(finding, check=one.name)


def preflight(case: Case) -> list[Finding]:
    """The quick checks before a run: what it should be warned of.

    Raises:
        FedmemError: the first problem.
    """
    warnings = []
    for finding in examine(case, [one for one in CHECKS if one.quick]):
        if finding.level is Level.PROBLEM:
            raise FedmemError("\n".join(filter(None, (finding.figure, finding.advice))))
        if finding.level is Level.WARNING:
            warnings.append(finding)
    return warnings
