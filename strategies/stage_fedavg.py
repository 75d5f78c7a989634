"""Federated averaging of one stage: its scope and nothing else, weighted by users' targets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

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

from fedmem.errors import FedmemError
from fedmem.evaluation import means
from fedmem.exchange import exchange
from fedmem.messages import (
    EvaluateResult,
    NeedsFrozen,
    Task,
    TrainResult,
    payload_bytes,
    to_metric_record,
)
from fedmem.participants import UserIndices, sample_round
from fedmem.settings import Settings
from fedmem.stages import Stage
from strategies.server_optimizer import Arrays, make_server_optimizer

SELECTED_BY = "sampled/HR@10"
"""The validation metric that is shown of a round."""


def worth(validation: Mapping[str, float]) -> float:
    """What the best round has most of: the mean of HR@10 over the rankings of its validation."""
    found = [value for name, value in validation.items() if name.endswith("/HR@10")]
    return sum(found) / len(found)


@dataclass(frozen=True)
class RoundRecord:
    """What one round did; a line of `metrics.jsonl`.

    Attributes:
        stage: name of the stage.
        round: from 1; 0 is the validation of what the stage starts from.
        loss: mean loss a target; None in round 0.
        users: users trained.
        targets: targets trained on.
        messages: replies to the training messages.
        bytes_down: bytes of all training messages to the nodes.
        bytes_up: bytes of all their replies.
        seconds: wall time, validation included.
        evaluation_seconds: the part of it that the validation took.
        validation: metrics, in the rounds that have them.
        memory: figures of the memories, where they are on and a validation looked at them.
        refused: replies that were left out, and why.
    """

    stage: str
    round: int
    loss: float | None = None
    users: int = 0
    targets: int = 0
    messages: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    validation: dict[str, float] | None = None
    memory: dict[str, float] | None = None
    refused: list[str] = field(default_factory=list)


class StageFedAvg(FedAvg):
    """FedAvg over users of the parameters in a stage's scope.

    A node's reply is the mean change of the users that it trained, and its weight is their targets;
    so the average over nodes is the average over users, however they are spread.

    Args:
        settings: of the run.
        stage: which parameters, and for how long.
        homes: the users that live at each node, by node id.
        frozen: parameters outside the scope; a node gets them once.
        frozen_hash: their content hash.
        threshold: novelty threshold of the memory; 0 where it is off.
        on_round: called with the record of every round.
        stop: set from outside to end the run.
    """

    def __init__(
        self,
        settings: Settings,
        stage: Stage,
        homes: dict[int, UserIndices],
        frozen: ArrayRecord,
        frozen_hash: str,
        threshold: float,
        on_round: Callable[[RoundRecord], None],
        stop: threading.Event,
    ) -> None:
        super().__init__(
            fraction_train=settings.federation.fraction, weighted_by_key="num-examples"
        )
        self.settings = settings
        self.stage = stage
        self.homes = homes
        self.users = np.sort(np.concatenate(list(homes.values())))
        self.frozen = frozen
        self.frozen_hash = frozen_hash
        self.threshold = threshold
        self.on_round = on_round
        self.stop = stop
        self.best_round = 0
        self.best_validation: dict[str, float] = {}
        self._optimizer = make_server_optimizer(settings.strategy, stage.pace)
        self._current = ArrayRecord()
        self._informed: set[int] = set()
        self._record = RoundRecord(stage.name, 0)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A task for every node at which sampled users live."""
        self._current = arrays
        sampled = sample_round(
            self.users,
            self.settings.federation.fraction,
            self.settings.seed,
            self.stage.name,
            server_round,
        )
        for node, residents in self.homes.items():
            users = np.intersect1d(sampled, residents)
            if len(users):
                task = self._task(node, server_round, arrays)
                yield self._message(node, replace(task, users=users), MessageType.TRAIN)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the changes and let the server optimizer take its step.

        Replies that offer anything but the scope are refused, and the round goes on without them.
        """
        results: list[TrainResult] = []
        refused: list[str] = []
        for reply in replies:
            result = TrainResult.from_record(reply.content)
            reason = self._fault(result)
            if reason is None:
                results.append(result)
            else:
                refused.append(f"node {reply.metadata.src_node_id}: {reason}")
        self._record = replace(self._record, refused=refused)
        weight = sum(result.weight for result in results)
        if weight == 0:
            return None, None
        # Replies come in any order: sum in a fixed one, so that a run can be repeated bit for bit.
        results.sort(key=lambda r: (r.weight, r.loss))
        shares = [result.weight / weight for result in results]
        parameters: Arrays = {name: array.numpy() for name, array in self._current.items()}
        change: Arrays = {
            name: sum(
                (r.change[name] * share for r, share in zip(results, shares, strict=True)),
                np.zeros_like(value),
            )
            for name, value in parameters.items()
        }
        stepped = self._optimizer.step(parameters, change)
        loss = sum(r.loss * share for r, share in zip(results, shares, strict=True))
        metrics = {"loss": loss, "users": sum(r.users for r in results), "num-examples": weight}
        arrays = ArrayRecord({n: Array(np.asarray(v, np.float32)) for n, v in stepped.items()})
        return arrays, to_metric_record(metrics)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """A task for every node: all its users rank their held-out item of `config["split"]`."""
        for node in self.homes:
            task = replace(
                self._task(node, server_round, arrays),
                split=str(config["split"]),
                rankings=tuple(str(config["rankings"]).split(",")),
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
        return to_metric_record(means(sums) | {f"memory/{k}": v for k, v in memory.items()})

    def evaluate(
        self, grid: Grid, arrays: ArrayRecord, server_round: int, split: str, rankings: str
    ) -> tuple[dict[str, float], dict[str, float]]:
        """One evaluation on all nodes: (metrics, summed memory figures).

        Raises:
            FedmemError: no node answered in time.
        """
        config = ConfigRecord({"split": split, "rankings": rankings})
        replies = self._exchange(
            grid, self.configure_evaluate(server_round, arrays, config, grid), 3600.0
        )
        record = self.aggregate_evaluate(server_round, replies)
        if record is None:
            raise FedmemError(f"{self.stage.name}: no node answered the evaluation.")
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
        """Run the stage: train, validate every so often, stop when that no longer gets better.

        A stage with a predecessor validates that first, as round 0, so that its best round is never
        worse on validation than what it starts from.

        Returns:
            The parameters of the best round in `arrays`; see also `best_round`.

        Raises:
            FedmemError: no node gave a usable reply in some round.
            Interrupted: `stop` was set.
        """
        result = Result()
        arrays = best = initial_arrays
        since_best = 0
        every = self.settings.federation.evaluate_every
        for server_round in range(0 if self.stage.requires else 1, num_rounds + 1):
            started = time.monotonic()
            self._record = RoundRecord(self.stage.name, server_round)
            if server_round > 0:
                messages = self.configure_train(server_round, arrays, ConfigRecord(), grid)
                replies = self._exchange(grid, messages, timeout)
                aggregated, metrics = self.aggregate_train(server_round, replies)
                if aggregated is None or metrics is None:
                    raise FedmemError(
                        f"{self.stage.name}, round {server_round}: no usable reply. "
                        + "; ".join(self._record.refused or ["No node answered in time."])
                    )
                arrays = aggregated
                result.train_metrics_clientapp[server_round] = metrics
                self._record = replace(
                    self._record,
                    loss=float(metrics["loss"]),  # type: ignore[arg-type]
                    users=int(metrics["users"]),  # type: ignore[arg-type]
                    targets=int(metrics["num-examples"]),  # type: ignore[arg-type]
                    messages=len(replies),
                    bytes_up=sum(payload_bytes(reply.content) for reply in replies),
                )
            if server_round % every == 0 or server_round == num_rounds:
                validating = time.monotonic()
                validation, memory = self.evaluate(
                    grid, arrays, server_round, "validation", ",".join(self.stage.validated_by)
                )
                result.evaluate_metrics_clientapp[server_round] = to_metric_record(validation)
                self._record = replace(
                    self._record,
                    evaluation_seconds=time.monotonic() - validating,
                    validation=validation,
                    memory=memory or None,
                )
                since_best += 1
                first = not self.best_validation
                if first or worth(validation) > worth(self.best_validation):
                    best, since_best = arrays, 0
                    self.best_round, self.best_validation = server_round, validation
            self.on_round(replace(self._record, seconds=time.monotonic() - started))
            if since_best >= self.settings.strategy.patience:
                break
        result.arrays = best
        return result

    def _task(self, node: int, server_round: int, arrays: ArrayRecord) -> Task:
        first_contact = node not in self._informed
        self._informed.add(node)
        return Task(
            settings=self.settings.to_json(),
            stage=self.stage.name,
            scope=arrays,
            frozen_hash=self.frozen_hash,
            frozen=self.frozen if first_contact else None,
            threshold=self.threshold,
            round=server_round,
        )

    def _message(self, node: int, task: Task, message_type: str) -> Message:
        return Message(content=task.to_record(), dst_node_id=node, message_type=message_type)

    def _exchange(self, grid: Grid, messages: Iterable[Message], timeout: float) -> list[Message]:
        """Send and receive; a node that lacks the frozen rest gets it and is asked again."""
        sent = list(messages)
        replies = exchange(grid, sent, timeout, self.stop)
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
            replies += exchange(grid, again, timeout, self.stop)
        if sent and sent[0].metadata.message_type == MessageType.TRAIN:
            bytes_down = sum(payload_bytes(message.content) for message in [*sent, *again])
            self._record = replace(self._record, bytes_down=bytes_down)
        return replies

    def _fault(self, result: TrainResult) -> str | None:
        """Why a reply cannot be averaged; None where it can."""
        outside = sorted(set(result.change) - set(self._current))
        missing = sorted(set(self._current) - set(result.change))
        if outside:
            return f"offers parameters outside the scope of {self.stage.name}: {', '.join(outside)}"
        if missing:
            return f"lacks parameters of the scope of {self.stage.name}: {', '.join(missing)}"
        for name, value in result.change.items():
            if value.shape != tuple(self._current[name].shape):
                return f"{name} has shape {value.shape}, not {tuple(self._current[name].shape)}"
        return None
