"""How a stage stands after a round: its best round, and whether it goes on, cools down or stops."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from fedmem.core.model.parameters import Parameters
from fedmem.core.privacy.ledger import Ledger
from fedmem.core.privacy.plan import affordable, charged, figures_of, require_affordable
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.core.updates.filters import FilterStates
from fedmem.runs.records import RoundRecord, worth
from fedmem.runs.schedule import Schedule

LISTED = 3  # refused replies in a message


@dataclass(frozen=True)
class StageProgress:
    """What a round of a stage ends in: all that is saved of the stage, and read again to resume.

    Attributes:
        round: the round that has ended; the one before the first: none has.
        schedule: the rounds of the stage; they become fewer where patience runs out.
        parameters: of the scope, after the round.
        threshold: novelty threshold of the memory; None where it is off.
        optimizer: the optimizer's tensors, by name.
        owed: what rounding has left of the server's steps, by parameter name.
        filters: what the server's filters carry.
        best_round: the best round by validation so far; 0: none, or what the stage started from.
        best_validation: metrics of that round; empty: no validation yet.
        best: the scope's parameters after it; None: no validation yet.
        since_best: validations since.
        lowest_loss: of the rounds so far; None: none has trained.
        trouble: why the stage had to stop after this round; None: it had not.
        ledger: what the run has released; None: it is not private.
        awaiting: the record of the round where it has been trained and not validated yet; None: it
            has ended.
    """

    stage: str
    round: int
    schedule: Schedule
    parameters: Parameters = field(repr=False)
    threshold: float | None
    optimizer: Parameters = field(repr=False, default_factory=dict)
    owed: Parameters = field(repr=False, default_factory=dict)
    filters: FilterStates = field(default_factory=dict)
    best_round: int = 0
    best_validation: dict[str, float] = field(default_factory=dict)
    best: Parameters | None = field(repr=False, default=None)
    since_best: int = 0
    lowest_loss: float | None = None
    trouble: str | None = None
    ledger: Ledger | None = None
    awaiting: RoundRecord | None = None

    @property
    def over(self) -> bool:
        """Whether no round is left, or the stage had to stop."""
        ended = self.round >= self.schedule.last and self.awaiting is None
        return ended or self.trouble is not None

    @property
    def without_tensors(self) -> StageProgress:
        """The same, but for what is large: to know where the stage stands, not to go on from."""
        return replace(self, parameters={}, optimizer={}, owed={}, best=None)

    @property
    def is_best(self) -> bool:
        """Whether the round that has ended is the best so far."""
        return self.best is not None and self.best_round == self.round


class StageRules:
    """What a round's figures mean for a stage, as `strategy` of the settings has it."""

    def __init__(self, settings: Settings, stage: Stage) -> None:
        self._settings = settings
        self._stage = stage

    def begin(
        self, parameters: Parameters, threshold: float | None, ledger: Ledger | None = None
    ) -> StageProgress:
        """Before the first round.

        A stage with a predecessor validates that first, as round 0, so that its best round is never
        worse on validation than what it starts from. A private one has as many rounds as its budget
        allows.

        Raises:
            FedmemError: the budget allows none.
        """
        settings, schedule = self._settings, Schedule.of(self._settings, self._stage)
        if ledger is not None:
            most = affordable(settings, ledger, self._stage.name, schedule.rounds)
            schedule = schedule.within(most)
        first = -1 if self._stage.requires and not self._settings.privacy.noises_figures else 0
        return StageProgress(
            stage=self._stage.name,
            round=first,
            schedule=schedule,
            parameters=parameters,
            threshold=threshold,
            ledger=ledger,
        )

    def gone_on(self, progress: StageProgress) -> StageProgress:
        """Where a stage goes on at nodes that add the noise.

        The sum of the round that was broken off may have been seen, and comes again with other
        noise. So it is charged, and the stage has fewer rounds where the budget asks for it.

        Raises:
            FedmemError: the budget allows no other round.
        """
        if progress.ledger is None or progress.over or progress.awaiting is not None:
            return progress
        ledger = charged(self._settings, progress.ledger, progress.stage)
        left = progress.schedule.last - progress.round
        left = affordable(self._settings, ledger, progress.stage, left)
        schedule = progress.schedule.within(progress.round + left)
        return replace(progress, ledger=ledger, schedule=schedule)

    def charged(self, progress: StageProgress) -> StageProgress:
        """Before the messages of a round are sent: with what the round is going to release.

        Raises:
            FedmemError: that is more than the budget.
        """
        if progress.ledger is None or progress.round < 1:
            return progress
        ledger = charged(self._settings, progress.ledger, progress.stage)
        require_affordable(self._settings, ledger)
        return replace(progress, ledger=ledger)

    def charged_figures(self, progress: StageProgress) -> StageProgress:
        """Before a validation or the test, likewise."""
        if progress.ledger is None or not self._settings.privacy.noises_figures:
            return progress
        ledger = progress.ledger.charged(figures_of(self._settings, progress.stage))
        require_affordable(self._settings, ledger)
        return replace(progress, ledger=ledger)

    def validates(self, progress: StageProgress) -> bool:
        """Whether the round that has been trained is validated."""
        if progress.trouble is not None:
            return False
        if progress.round == progress.schedule.last:
            return True
        every = self._settings.federation.evaluate_every
        return progress.round % every == 0 and not self._settings.privacy.noises_figures

    def trained(self, progress: StageProgress, record: RoundRecord) -> StageProgress:
        """After the training of a round, whose parameters `progress` has already."""
        limit, loss, lowest = self._settings.strategy.loss_limit, record.loss, progress.lowest_loss
        if progress.ledger is not None and loss is None:
            return progress  # no loss leaves a private round
        if loss is None:
            why = "; ".join(record.refused[:LISTED]) or "all users were left out by their nodes"
            more = len(record.refused) - LISTED
            why += f" and {more} more" if more > 0 else ""
            return self._stopped(progress, record, f"no usable reply: {why}")
        if not math.isfinite(loss):
            return self._stopped(progress, record, f"the loss is {loss}")
        if limit is not None and lowest is not None and loss > limit * lowest:
            return self._stopped(progress, record, f"the loss is {loss:.4g} after {lowest:.4g}")
        return replace(progress, lowest_loss=loss if lowest is None else min(loss, lowest))

    def validated(self, progress: StageProgress, record: RoundRecord) -> StageProgress:
        """After the validation of a round.

        A private stage keeps its last round: to choose one is a release too.
        """
        assert record.validation is not None
        found, strategy = worth(record.validation), self._settings.strategy
        best = worth(progress.best_validation) if progress.best_validation else None
        if best is None or found > best or progress.ledger is not None:
            return replace(
                progress,
                best=progress.parameters,
                best_round=record.round,
                best_validation=record.validation,
                since_best=0,
            )
        progress = replace(progress, since_best=progress.since_best + 1)
        if progress.since_best >= strategy.patience:
            progress = replace(progress, schedule=progress.schedule.cut(record.round))
        if strategy.collapse is not None and found < strategy.collapse * best:
            what = f"validation HR@10 is {found:.3f} after {best:.3f} in round"
            return self._stopped(progress, record, f"{what} {progress.best_round}")
        return progress

    def _stopped(self, progress: StageProgress, record: RoundRecord, what: str) -> StageProgress:
        """A stage that stops for what went wrong, with what may help."""
        strategy, client = self._settings.strategy, self._settings.client
        hints = [
            f"lower strategy.learning_rate={strategy.learning_rate} "
            f"or client.learning_rate={client.learning_rate}"
        ]
        if self._stage.content:
            hints.append("look at the item features")
        if self._stage.requires:
            hints.append(f"see that {self._stage.requires[-1]} was trained to its end")
        trouble = (
            f"{self._stage.name}, round {record.round}: {what.rstrip('.')}.\n"
            f"What may help: {', '.join(hints)}."
        )
        return replace(progress, trouble=trouble)
