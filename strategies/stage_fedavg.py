"""Federated averaging of one stage: its scope and nothing else, weighted by users' targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result

from fedmem.core.data.sampling import sample_round
from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.outcomes import Outcomes, joined
from fedmem.core.evaluation.protocol import means
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.messaging.exchange import nothing
from fedmem.messaging.messages import (
    EvaluateResult,
    NeedsFrozen,
    Task,
    payload_bytes,
    to_metric_record,
)
from fedmem.messaging.roster import Roster
from fedmem.runs.state import StageState
from strategies.aggregation import aggregate, require_enough
from strategies.reply_checks import ReplyChecks
from strategies.rounds import OnRound, Rounds
from strategies.server_optimizer import make_server_optimizer
from strategies.standing import Standing


class StageFedAvg(FedAvg):
    """FedAvg over users of the parameters in a stage's scope.

    A node's reply is the mean change of the users that it trained, and its weight is their targets;
    so the average over nodes is the average over users, however they are spread.

    Args:
        settings: of the run.
        stage: which parameters, and for how long.
        roster: the nodes, and the users that live there.
        frozen: parameters outside the scope; a node gets them once.
        frozen_hash: their content hash.
        threshold: novelty threshold of the memory; None where it is off.
        on_round: told of every round.
        state: what an earlier process came to in this stage; None: the stage starts.

    Attributes:
        required: usable replies without which the round's training does not count.
        taken: of the round aggregated last, what `RoundRecord` tells of its replies.
        evaluation_bytes: of the last evaluation's messages and replies.
        outcomes: all users' ranks in the latest evaluation, where it asked for them.
    """

    def __init__(
        self,
        settings: Settings,
        stage: Stage,
        roster: Roster,
        frozen: ArrayRecord,
        frozen_hash: str,
        threshold: float | None,
        on_round: OnRound,
        state: StageState | None = None,
    ) -> None:
        super().__init__(
            fraction_train=settings.federation.fraction, weighted_by_key="num-examples"
        )
        require_enough(settings.strategy, len(roster.homes))
        self.settings = settings
        self.stage = stage
        self.roster = roster
        self.frozen = frozen
        self.frozen_hash = frozen_hash
        self.threshold = threshold
        self.on_round = on_round
        self.standing = Standing(settings, stage, state)
        self._state = state
        self.checks = ReplyChecks(settings, stage, state.usual if state else ())
        self.optimizer = make_server_optimizer(settings.strategy)
        if state is not None:
            self.optimizer.load_state({n: x.numpy() for n, x in state.optimizer.items()})
        self.outcomes: Outcomes = {}
        self._current = ArrayRecord()
        self._asked: dict[int, int] = {}
        self._informed: set[int] = set()
        self.required = 1
        self.taken: dict[str, Any] = {}
        self.evaluation_bytes = 0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A task for every connected node at which sampled users live."""
        self._current = arrays
        self._asked = {}
        sampled = sample_round(
            self.roster.users,
            self.settings.federation.fraction,
            self.settings.seed,
            self.stage.name,
            server_round,
        )
        present = self.roster.look()
        homes = {n: np.intersect1d(sampled, users) for n, users in self.roster.homes.items()}
        homes = {node: users for node, users in homes.items() if len(users)}
        self.required = min(self.settings.strategy.min_fit_clients, len(homes))
        for node, users in homes.items():
            if node in present:
                self._asked[node] = len(users)
                task = replace(
                    self._task(node, server_round, arrays),
                    users=users,
                    norm_limit=self.checks.limit_of(len(users)),
                )
                yield self._message(node, task, MessageType.TRAIN)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the changes and let the server optimizer take its step.

        A reply that offers anything but the scope, or that cannot be meant, is refused, and the
        round goes on without it.
        """
        fit, refused = self.checks.sort_out(replies, self._asked, self._current)
        results = [reply.result for reply in fit]
        weight = sum(result.weight for result in results)
        self.taken = {
            "users": sum(result.users for result in results),
            "left_out": sum(result.left_out for result in results),
            "targets": weight,
            "refused": refused,
        }
        if weight == 0:
            return None, None
        trained = [reply.message for reply in fit if reply.result.weight]
        change, loss = aggregate(self.settings.strategy, server_round, trained)
        parameters = {name: array.numpy() for name, array in self._current.items()}
        pace = self.standing.schedule.pace(server_round)
        stepped = self.optimizer.step(parameters, change, pace)
        if not all(np.isfinite(value).all() for value in stepped.values()):
            loss = math.nan
        arrays = ArrayRecord({n: Array(np.asarray(v, np.float32)) for n, v in stepped.items()})
        return arrays, to_metric_record({"loss": loss, "num-examples": weight})

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A task for every connected node: its users rank their item held out for the split."""
        for node in self.roster.look():
            task = replace(
                self._task(node, server_round, arrays),
                split=str(config["split"]),
                rankings=tuple(str(config["rankings"]).split(",")),
                ranks=bool(config["ranks"]),
            )
            yield self._message(node, task, MessageType.EVALUATE)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Metrics over all users, from the nodes' sums; memory figures under `memory/`."""
        sums: dict[str, float] = {}
        memory: dict[str, float] = {}
        results = [EvaluateResult.from_record(reply.content) for reply in replies]
        # As in training: a fixed order of summation, whichever node answers first.
        results.sort(key=lambda result: sorted(result.sums.items()))
        for result in results:
            for total, part in ((sums, result.sums), (memory, result.memory)):
                for name, value in part.items():
                    total[name] = total.get(name, 0.0) + value
        if not sums:
            return None
        self.outcomes = joined([result.outcomes for result in results if result.outcomes])
        return to_metric_record(means(sums) | {f"memory/{k}": v for k, v in memory.items()})

    def evaluate(
        self,
        grid: Grid,
        arrays: ArrayRecord,
        server_round: int,
        split: str,
        rankings: str,
        ranks: bool = False,
    ) -> tuple[dict[str, float], dict[str, float]]:
        """One evaluation on all nodes: (metrics, summed memory figures); with `ranks` also those.

        Raises:
            FedmemError: no node answered in time.
        """
        config = ConfigRecord({"split": split, "rankings": rankings, "ranks": ranks})
        messages = self.configure_evaluate(server_round, arrays, config, grid)
        replies, sent, _ = self.ask(messages)
        self.evaluation_bytes = sent + sum(payload_bytes(reply.content) for reply in replies)
        record = self.aggregate_evaluate(server_round, replies)
        if record is None:
            raise FedmemError(
                f"{self.stage.name}: no node answered the evaluation. "
                + "; ".join(self.roster.news())
            )
        metrics = {name: float(value) for name, value in record.items()}  # type: ignore[arg-type]
        memory = {k.removeprefix("memory/"): v for k, v in metrics.items() if "memory/" in k}
        return {k: v for k, v in metrics.items() if "memory/" not in k}, memory

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run the rounds of the stage's schedule, which `num_rounds` does not change; see `Rounds`.

        Returns:
            The parameters of the best round in `arrays`; see also `standing`.

        Raises:
            FedmemError: no node answered in some round.
            Interrupted: the run was asked to stop.
        """
        Rounds(self, grid, self.on_round).run(initial_arrays, self._state)
        return Result(arrays=self.standing.best or initial_arrays)

    def ask(
        self, messages: Iterable[Message], meanwhile: Callable[[], None] = nothing
    ) -> tuple[list[Message], int, int]:
        """Send messages and receive replies; a node that lacks the frozen rest is asked again.

        Returns:
            Replies, bytes sent, and the part of them that brought the frozen rest.
        """
        sent, timeout = list(messages), self.settings.strategy.round_timeout
        replies = self.roster.ask(sent, timeout, meanwhile)
        lacking = {r.metadata.src_node_id for r in replies if NeedsFrozen.is_in(r.content)}
        again = []
        for message in sent:
            if message.metadata.dst_node_id in lacking:
                content = RecordDict({**message.content, "frozen": self.frozen})
                again.append(
                    Message(
                        content=content,
                        dst_node_id=message.metadata.dst_node_id,
                        message_type=message.metadata.message_type,
                    )
                )
        if again:
            replies = [r for r in replies if not NeedsFrozen.is_in(r.content)]
            replies += self.roster.ask(again, timeout)
        first = sum(payload_bytes(message.content) for message in sent)
        second = sum(payload_bytes(message.content) for message in again)
        brought = sum(self.frozen.count_bytes() for message in sent if "frozen" in message.content)
        return replies, first + second, brought + second

    def _task(self, node: int, server_round: int, arrays: ArrayRecord) -> Task:
        first_contact = node not in self._informed
        self._informed.add(node)
        return Task(
            settings=self.settings.to_json(),
            stage=self.stage.name,
            scope=arrays,
            frozen_hash=self.frozen_hash,
            frozen=self.frozen if first_contact else None,
            threshold=self.threshold or 0.0,
            round=server_round,
        )

    def _message(self, node: int, task: Task, message_type: str) -> Message:
        return Message(content=task.to_record(), dst_node_id=node, message_type=message_type)
