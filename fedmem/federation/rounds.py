"""The rounds of a stage, one after the other, from its start or from where it was stopped."""

from __future__ import annotations

import time
from dataclasses import replace

from fedmem.messaging.roster import Roster
from fedmem.runs.records import RoundRecord
from fedmem.runs.reporter import StageReporter
from fedmem.runs.stage_progress import StageProgress, StageRules
from fedmem.strategies import StageFedAvg


def run_rounds(
    strategy: StageFedAvg,
    roster: Roster,
    rules: StageRules,
    progress: StageProgress,
    reporter: StageReporter,
) -> StageProgress:
    """Train, validate every so often, and report, until the stage is over.

    Args:
        strategy: what is asked of the nodes, and what is made of their answers.
        roster: the nodes.
        rules: what a round's figures mean for the stage.
        progress: where the stage stands.
        reporter: of rounds that have ended; it reports one while the nodes train in the next.

    Raises:
        FedmemError: too few nodes answered.
        Interrupted: the run was asked to stop.
    """
    began = time.monotonic()
    try:
        while not progress.over:
            if progress.awaiting is None:
                progress, record = _trained(strategy, rules, progress, reporter)
            else:  # its parameters were written, and the run was stopped before it ended
                record, progress = progress.awaiting, replace(progress, awaiting=None)
            if rules.validates(progress):
                reporter.trained(record, progress)
                progress = rules.charged_figures(progress)
                found = strategy.rank(record.round, progress.parameters, "validation")
                record = replace(
                    record,
                    evaluation_seconds=found.seconds,
                    evaluation_bytes=found.bytes,
                    traffic=record.traffic | found.traffic,
                    validation=found.metrics,
                    memory=found.memory,
                )
                progress = rules.validated(progress, record)
            ended = time.monotonic()
            record = replace(
                record,
                last=progress.schedule.last,
                seconds=ended - began,
                nodes=roster.news(),
                epsilon=None if progress.ledger is None else progress.ledger.epsilon,
            )
            began = ended
            reporter.ended(record, progress)
    finally:
        reporter.end()
    return progress


def _trained(
    strategy: StageFedAvg, rules: StageRules, progress: StageProgress, reporter: StageReporter
) -> tuple[StageProgress, RoundRecord]:
    """The next round up to its validation; round 0 validates what the stage starts from."""
    number = progress.round + 1
    record, progress = RoundRecord(progress.stage, number), replace(progress, round=number)
    progress = rules.charged(progress)
    if number > 0:
        progress, record = strategy.train(progress, reporter.report)
        progress = rules.trained(progress, record)
    return progress, record
