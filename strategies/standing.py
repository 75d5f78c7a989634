"""How a stage stands after a round: its best round, and whether it goes on or goes wrong."""

from __future__ import annotations

import math

from flwr.app import ArrayRecord

from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.messaging.messages import to_array_record
from fedmem.runs.records import RoundRecord, worth
from fedmem.runs.state import StageState
from strategies.schedule import Schedule

NAMED = 3
"""Refused replies that a message lists."""


class Standing:
    """Follows a stage from round to round.

    Args:
        settings: of the run.
        stage: that is followed.
        state: what an earlier process came to; None: the stage starts.

    Attributes:
        best_round: the best by validation; 0: none yet, or what the stage started from.
        best_validation: its metrics; empty: no validation yet.
        best: its parameters; None: no validation yet.
        since_best: validations since.
        schedule: the rounds it has; they become fewer where patience runs out.
        lowest_loss: of all rounds; None: none has trained.
        trouble: why the stage had to stop; None: it had not.
    """

    def __init__(self, settings: Settings, stage: Stage, state: StageState | None = None) -> None:
        self._settings = settings
        self._stage = stage
        self.best_round = 0 if state is None else state.best_round
        self.best_validation: dict[str, float] = {} if state is None else state.best_validation
        self.best: ArrayRecord | None = None
        if state is not None and state.best is not None:
            self.best = to_array_record(state.best)
        self.since_best = 0 if state is None else state.since_best
        self.schedule = Schedule.of(settings, stage, None if state is None else state.cut_after)
        self.lowest_loss = None if state is None else state.lowest_loss
        self.trouble = None if state is None else state.trouble

    def trained(self, record: RoundRecord) -> None:
        """See how the round's training went."""
        limit, loss = self._settings.strategy.loss_limit, record.loss
        if loss is None:
            self._fail_without_reply(record)
        elif not math.isfinite(loss):
            self.fail(record.round, f"the loss is {loss}")
        elif limit is not None and loss > limit * (self.lowest_loss or math.inf):
            self.fail(record.round, f"the loss is {loss:.4g} after {self.lowest_loss:.4g}")
        else:
            self.lowest_loss = min(loss, self.lowest_loss or loss)

    def validated(self, record: RoundRecord, arrays: ArrayRecord) -> bool:
        """See how the round's parameters did; whether they are the best so far."""
        assert record.validation is not None
        found, share = worth(record.validation), self._settings.strategy.collapse
        best = worth(self.best_validation) if self.best_validation else None
        self.since_best += 1
        if best is None or found > best:
            self.best, self.since_best = arrays, 0
            self.best_round, self.best_validation = record.round, record.validation
            return True
        if self.since_best >= self._settings.strategy.patience:
            self.schedule = self.schedule.cut(record.round)
        if share is not None and found < share * best:
            before = f"{best:.3f} in round {self.best_round}"
            self.fail(record.round, f"validation HR@10 is {found:.3f} after {before}")
        return False

    def _fail_without_reply(self, record: RoundRecord) -> None:
        why = "; ".join(record.refused[:NAMED]) or "all users were left out by their nodes"
        more = len(record.refused) - NAMED
        self.fail(record.round, f"no usable reply: {why}" + (f" and {more} more" * (more > 0)))

    def fail(self, server_round: int, what: str) -> None:
        """Stop the stage for what went wrong, with what may mend it."""
        strategy, client = self._settings.strategy, self._settings.client
        hints = [
            f"lower strategy.learning_rate={strategy.learning_rate} "
            f"or client.learning_rate={client.learning_rate}"
        ]
        if self._stage.content:
            hints.append("look at the item features")
        if self._stage.requires:
            hints.append(f"see that {self._stage.requires[-1]} was trained to its end")
        self.trouble = (
            f"{self._stage.name}, round {server_round}: {what.rstrip('.')}.\n"
            f"What may help: {', '.join(hints)}."
        )
