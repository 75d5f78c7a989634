"""The rounds of a stage, one after the other, from its start or from where it was stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid

from fedmem.core.errors import FedmemError
from fedmem.messaging.exchange import nothing
from fedmem.messaging.messages import from_array_record, payload_bytes, to_array_record
from fedmem.runs.records import RoundRecord
from fedmem.runs.state import StageState

if TYPE_CHECKING:
    from strategies.stage_fedavg import StageFedAvg

OnRound = Callable[[RoundRecord, StageState, bool], None]
"""Called with what a round came to, the state that it ends in, and whether it is the best so far.
"""


class Rounds:
    """Trains, validates every so often, and tells of every round that has ended.

    It tells of one while the nodes train in the next, since that takes the time to write it down. A
    run that is killed before begins again with the round that it had not told of.

    Args:
        strategy: what is asked of the nodes, and what is made of their answers.
        grid: the nodes.
        on_round: told of every round.
    """

    def __init__(self, strategy: StageFedAvg, grid: Grid, on_round: OnRound) -> None:
        self._strategy = strategy
        self._standing = strategy.standing
        self._stage = strategy.stage
        self._grid = grid
        self._on_round = on_round
        self._untold: Callable[[], None] = nothing

    def run(self, arrays: ArrayRecord, state: StageState | None) -> None:
        """Run the rounds of the stage's schedule, fewer where it has to stop before.

        A stage with a predecessor validates that first, as round 0, so that its best round is never
        worse on validation than what it starts from.

        Args:
            arrays: what the stage starts from.
            state: what the last round before ended in; None: there was none.
        """
        server_round = 0 if self._stage.requires else 1
        if state is not None:
            server_round, arrays = state.round + 1, to_array_record(state.parameters)
        try:
            self._run(server_round, arrays)
        finally:
            self._tell()

    def _run(self, server_round: int, arrays: ArrayRecord) -> None:
        every = self._strategy.settings.federation.evaluate_every
        started = time.monotonic()
        while server_round <= self._standing.schedule.last and self._standing.trouble is None:
            is_best = False
            record = RoundRecord(self._stage.name, server_round)
            if server_round > 0:
                record, arrays = self._train(record, arrays)
                self._standing.trained(record)
            due = server_round % every == 0 or server_round == self._standing.schedule.last
            if due and self._standing.trouble is None:
                record = self._validate(record, arrays)
                is_best = self._standing.validated(record, arrays)
            now = time.monotonic()
            record = replace(
                record,
                last=self._standing.schedule.last,
                seconds=now - started,
                nodes=self._strategy.roster.news(),
            )
            started = now
            state = self._state_after(server_round, arrays)
            self._untold = partial(self._on_round, record, state, is_best)
            server_round += 1

    def _tell(self) -> None:
        tell, self._untold = self._untold, nothing
        tell()

    def _train(self, record: RoundRecord, arrays: ArrayRecord) -> tuple[RoundRecord, ArrayRecord]:
        """The parameters after a round of training; as they were where no reply was usable."""
        strategy, server_round = self._strategy, record.round
        messages = strategy.configure_train(server_round, arrays, ConfigRecord(), self._grid)
        replies, bytes_down, bytes_frozen = strategy.ask(messages, self._tell)
        bytes_up = sum(payload_bytes(reply.content) for reply in replies)
        aggregated, metrics = strategy.aggregate_train(server_round, replies)
        usable = len(replies) - len(strategy.taken["refused"])
        if not replies or 0 < usable < strategy.required:
            lines = strategy.roster.news() + strategy.taken["refused"]
            raise FedmemError(
                f"{self._stage.name}, round {server_round}: {usable} usable replies, and "
                f"{max(strategy.required, 1)} are needed (strategy.min_fit_clients): "
                + "; ".join(lines)
            )
        record = replace(
            record,
            messages=len(replies),
            bytes_down=bytes_down,
            bytes_frozen=bytes_frozen,
            bytes_up=bytes_up,
            loss=None if metrics is None else cast(float, metrics["loss"]),
            **strategy.taken,
        )
        return record, arrays if aggregated is None else aggregated

    def _validate(self, record: RoundRecord, arrays: ArrayRecord) -> RoundRecord:
        started = time.monotonic()
        validation, memory = self._strategy.evaluate(
            self._grid, arrays, record.round, "validation", ",".join(self._stage.validated_by)
        )
        return replace(
            record,
            evaluation_seconds=time.monotonic() - started,
            evaluation_bytes=self._strategy.evaluation_bytes,
            validation=validation,
            memory=memory or None,
        )

    def _state_after(self, server_round: int, arrays: ArrayRecord) -> StageState:
        standing, best = self._standing, self._standing.best
        optimizer = self._strategy.optimizer.state()
        return StageState(
            stage=self._stage.name,
            round=server_round,
            parameters=from_array_record(arrays),
            optimizer={name: torch.from_numpy(np.asarray(x)) for name, x in optimizer.items()},
            best_round=standing.best_round,
            best_validation=standing.best_validation,
            best=None if best is None else from_array_record(best),
            since_best=standing.since_best,
            cut_after=standing.schedule.cut_after,
            lowest_loss=standing.lowest_loss,
            usual=self._strategy.checks.usual,
            threshold=self._strategy.threshold,
            trouble=standing.trouble,
        )
