"""Federated averaging of one stage: its scope and nothing else, weighted by users' targets."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn, cast

import numpy as np
import torch
from flwr.app import Message, MessageType
from flwr.serverapp.strategy import FedAvg
from torch import Tensor

from fedmem.core.arrays import found_in
from fedmem.core.data.sampling import sample_ranked, sample_round
from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.outcomes import Evaluation, joined
from fedmem.core.evaluation.protocol import USERS, means
from fedmem.core.model.parameters import Parameters
from fedmem.core.privacy.rounds import PrivateRounds
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.core.updates.filter import Reply
from fedmem.core.updates.filters import filter_average, hints_for, make_filters
from fedmem.messaging.exchange import nothing
from fedmem.messaging.messages import (
    EvaluateResult,
    Task,
    from_array_record,
    update_to_record,
)
from fedmem.messaging.roster import Roster
from fedmem.runs.records import RoundRecord
from fedmem.runs.stage_progress import StageProgress
from fedmem.strategies.aggregation import mean_of, require_enough, robust_strategy
from fedmem.strategies.collection import PlainCollection, Round
from fedmem.strategies.parameter_sender import ParameterSender, Scope
from fedmem.strategies.reply_checks import ReplyChecks
from fedmem.strategies.secure_collection import SecureCollection
from fedmem.strategies.server_optimizer import ServerOptimizer


class StageFedAvg(FedAvg):
    """FedAvg over users of the parameters in a stage's scope.

    A node's reply is the mean change of the users that it trained, and its weight is their targets;
    so the average over nodes is the average over users, however they are spread.

    Args:
        settings: of the run.
        stage: which parameters.
        roster: the nodes, and the users that live there.
        frozen: parameters outside the scope; a node gets them once.
        progress: where the stage stands.

    Raises:
        FedmemError: there are too few nodes for the aggregation, or too many for a secure sum.
    """

    def __init__(
        self,
        settings: Settings,
        stage: Stage,
        roster: Roster,
        frozen: Parameters,
        progress: StageProgress,
    ) -> None:
        super().__init__(
            fraction_train=settings.federation.fraction, weighted_by_key="num-examples"
        )
        require_enough(settings.strategy, len(roster.homes))
        self._settings = settings
        self._settings_sent = settings.to_json()
        self._stage = stage
        self._roster = roster
        self._threshold = progress.threshold
        self._sender = ParameterSender(settings, stage, roster, frozen, progress)
        self._private: PrivateRounds | None = None
        if progress.ledger is not None:
            users = len(roster.users)
            self._private = PrivateRounds(
                settings, stage.name, users, progress.ledger, progress.parameters
            )
        mechanism = None if self._private is None else self._private.mechanism
        self._filters = make_filters(settings, states=progress.filters, mechanism=mechanism)
        self._collection: PlainCollection | SecureCollection
        checks = ReplyChecks(settings, stage)
        if settings.privacy.secure_sum.enabled:
            size = sum(value.numel() for value in progress.parameters.values())
            noise = mechanism.noise if mechanism and settings.privacy.of_nodes else None
            self._collection = SecureCollection(
                settings, stage, roster, checks, self._filters, progress.filters, size, noise
            )
        else:
            self._collection = PlainCollection(checks, self._filters)
        self._optimizer = ServerOptimizer(settings.strategy, progress.optimizer)

    def train(
        self, progress: StageProgress, meanwhile: Callable[[], None] = nothing
    ) -> tuple[StageProgress, RoundRecord]:
        """Have a sample of the users train, average what they changed, and take a step.

        A reply that offers anything but the scope, or that a filter refuses, is left out, and the
        round goes on without it.

        Args:
            progress: of the stage, with the round's number and the parameters to train from.
            meanwhile: is called while the nodes train.

        Returns:
            The progress with the parameters after the server's step (as they were where no reply
            was usable) and the state of optimizer and filters; what the round did.

        Raises:
            FedmemError: fewer replies were usable than `strategy.min_nodes` asks for.
            Interrupted: the run was asked to stop.
        """
        number, scope = progress.round, self._sender.scope(progress.parameters)
        homes, present = self._sampled_at(number), self._roster.look()
        asked = {node: len(users) for node, users in homes.items() if node in present}
        tasks = functools.partial(self._tasks, number, scope, homes)
        ask = functools.partial(self._sender.ask, scope)
        collected = self._collection.collect(
            Round(number, progress.parameters, asked, tasks, ask, meanwhile)
        )
        required = min(self._settings.strategy.min_nodes, len(homes))
        # With none usable the stage stops by itself; a private one would go on with noise alone.
        none = homes and not (collected.usable if self._private else collected.messages)
        if none or 0 < collected.nodes < required:
            raise FedmemError(
                f"{self._stage.name}, round {number}: {collected.nodes} usable replies, and "
                f"{max(required, 1)} are needed (strategy.min_nodes): "
                + "; ".join(self._roster.news() + collected.refused)
            )
        usable = collected.usable
        record = RoundRecord(
            self._stage.name,
            number,
            users=sum(reply.update.users for reply in usable),
            left_out=sum(reply.update.left_out for reply in usable),
            targets=sum(reply.update.weight for reply in usable),
            messages=collected.messages,
            bytes_down=sum(collected.down.values()),
            bytes_frozen=collected.down.get("frozen", 0),
            bytes_up=sum(collected.up.values()),
            traffic={"train_down": collected.down, "train_up": collected.up},
            refused=collected.refused,
        )
        parameters = progress.parameters
        if record.targets or self._private:
            trained = [reply for reply in usable if reply.update.weight]
            usable.clear()  # here and below: a table of many items is large
            change, loss = {n: torch.zeros_like(v) for n, v in parameters.items()}, 0.0
            if trained:
                change, loss = self._averaged(number, trained)
            trained.clear()
            change = filter_average(self._filters, change, record.targets, number)
            pace = progress.schedule.pace(number)
            change = self._sender.rounded(change, number)
            parameters = self._optimizer.step(parameters, change, pace)
            self._sender.stepped(parameters, self._optimizer.state, pace)
            finite = all(map(_is_finite, parameters.values()))
            record = replace(record, loss=loss if finite else math.nan)
        if self._private is not None:  # what it has seen of single rounds is no part of the promise
            users = round(self._private.mechanism.expected)
            shown = record.loss if record.loss is not None and math.isnan(record.loss) else None
            record = replace(record, loss=shown, users=users, left_out=0, targets=users)
        progress = replace(
            progress,
            parameters=parameters,
            optimizer=self._optimizer.state,
            owed=self._sender.owed,
            filters=self._collection.state,
        )
        return progress, record

    def rank(
        self,
        server_round: int,
        parameters: Parameters,
        split: str,
        rankings: Sequence[str] | None = None,
        ranks: bool = False,
    ) -> Evaluation:
        """Have the users rank their item held out for the split, all or `evaluation.users` of them.

        Args:
            server_round: whose parameters these are.
            parameters: of the scope.
            split: `validation` or `test`.
            rankings: see `fedmem.core.evaluation.protocol`; None: those that validate the stage.
            ranks: whether to ask for each user's ranks.

        Raises:
            FedmemError: no node answered in time.
            Interrupted: the run was asked to stop.
        """
        began = time.monotonic()
        scope, nodes = self._sender.scope(parameters), self._roster.look()
        known, homes = self._roster.users, self._roster.homes
        ranked = sample_ranked(self._settings, known)
        sampled = len(ranked) < len(known)
        users = {n: found_in(ranked, homes[n]) if sampled else None for n in nodes}
        asked = {
            "split": split,
            "rankings": ",".join(rankings or self._stage.validated_by),
            "ranks": ranks,
        }
        messages = (
            self._message(node, MessageType.EVALUATE, server_round, scope, users=own, **asked)
            for node, own in users.items()
        )
        replies, down, up = self._sender.ask(scope, messages)
        if not replies:
            raise FedmemError(
                f"{self._stage.name}: no node answered the evaluation. "
                + "; ".join(self._roster.news())
            )
        results = [EvaluateResult.from_record(reply.content) for reply in replies]
        # A fixed order of summation, whichever node answers first: a run repeats bit for bit.
        results.sort(key=lambda result: sorted(result.sums.items()))
        sums = _summed(result.sums for result in results)
        memory = _summed(result.memory for result in results)
        if self._private is not None:
            sums = self._private.figures(sums, server_round, split)
        if self._settings.privacy.noises_figures:
            memory = {}  # exact sums over histories
        return Evaluation(
            metrics=means(sums),
            users=round(sums[USERS]),
            drawn_from=len(known) if sampled else None,
            memory=memory or None,
            outcomes=joined([result.outcomes for result in results if result.outcomes]),
            seconds=time.monotonic() - began,
            traffic={"evaluate_down": down, "evaluate_up": up},
        )

    def start(self, *_: Any, **__: Any) -> NoReturn:
        """Flower's loop is not for this strategy: see `fedmem.federation.rounds.run_rounds`."""
        raise NotImplementedError("use fedmem.federation.rounds.run_rounds")

    def _averaged(self, server_round: int, replies: Sequence[Reply]) -> tuple[Parameters, float]:
        """(change, mean loss a target) of replies in a fixed order; Krum's loss is its node's."""
        robust = robust_strategy(self._settings.strategy, len(replies))
        if robust is None:
            return mean_of([each.update for each in replies])
        messages = [
            Message(update_to_record(each.update), dst_node_id=each.node, message_type="train")
            for each in replies
        ]
        arrays, metrics = robust.aggregate_train(server_round, messages)
        assert arrays is not None
        assert metrics is not None
        return from_array_record(arrays), cast(float, metrics["loss"])

    def _sampled_at(self, server_round: int) -> dict[int, np.ndarray]:
        """The users that train in a round, by the node where they live; absent nodes too."""
        federation, seed = self._settings.federation, self._settings.seed
        users = self._roster.users
        if self._private is not None:
            sampled = self._private.sample(users, server_round)
        else:
            sampled = sample_round(users, federation.fraction, seed, self._stage.name, server_round)
        homes = {n: found_in(sampled, users) for n, users in self._roster.homes.items()}
        return {node: users for node, users in homes.items() if len(users)}

    def _tasks(
        self, server_round: int, scope: Scope, homes: dict[int, np.ndarray], to: Sequence[int]
    ) -> list[Message]:
        """A round's tasks for these nodes, in the order of the homes."""
        asked = {node: users for node, users in homes.items() if node in to}
        hints = {node: hints_for(self._filters, len(users)) for node, users in asked.items()}
        return [
            self._message(n, MessageType.TRAIN, server_round, scope, users=users, hints=hints[n])
            for n, users in asked.items()
        ]

    def _message(
        self, node: int, kind: str, server_round: int, scope: Scope, **asked: Any
    ) -> Message:
        """A task for a node, with what it lacks of the parameters."""
        task = Task(
            settings=self._settings_sent,
            stage=self._stage.name,
            threshold=self._threshold,
            round=server_round,
            **self._sender.fields_for(node, scope),
            **asked,
        )
        return Message(content=task.to_record(), dst_node_id=node, message_type=kind)


def _is_finite(value: Tensor) -> bool:
    """Whether all of its numbers are, by the least and the largest: one pass, and no new memory."""
    return not value.numel() or all(map(math.isfinite, map(float, value.aminmax())))


def _summed(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0.0) + value
    return total
