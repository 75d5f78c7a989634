"""How it is trained: at a user, at the server, in the federation, or on pooled data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedmem.core.settings.ranges import require

EXECUTIONS = ("auto", "batched", "stacked", "loop")
PRECISIONS = ("float32", "bfloat16")
LOCAL_OPTIMIZERS = ("sgd", "adam")
SERVER_OPTIMIZERS = ("none", "adam", "momentum")
AGGREGATIONS = ("mean", "median", "trimmed_mean", "krum")


@dataclass(frozen=True)
class ClientSettings:
    """How one user trains in one round."""

    optimizer: str
    """Of a user's own steps, one of `LOCAL_OPTIMIZERS`; it starts afresh in every round."""
    learning_rate: float
    local_steps: int
    """Full-batch steps a round."""
    windows: int
    """Training windows of `model.max_length` a user, counted from the latest."""
    negatives: int
    """Sampled negatives a window, where a stage's score is too dear for all items."""
    positions: int
    """Positions a window at which the memory's experts are trained."""
    micro_batch: int | None
    """Positions computed at once; null: as suits the device. A matter of speed, not of the result.
    """
    execution: str
    """How a cohort trains, one of `EXECUTIONS`: all give the same. `batched` is for one local step
    of SGD."""

    precision: str
    """Of the matrix products of training: one of `PRECISIONS`. Rankings are made in float32."""

    def __post_init__(self) -> None:
        require(
            self.optimizer in LOCAL_OPTIMIZERS,
            "client.optimizer",
            self.optimizer,
            f"one of {', '.join(LOCAL_OPTIMIZERS)}",
        )
        require(self.learning_rate > 0, "client.learning_rate", self.learning_rate, "above 0")
        require(
            self.micro_batch is None or self.micro_batch >= 1,
            "client.micro_batch",
            self.micro_batch,
            "at least 1, or null",
        )
        for key in ("local_steps", "windows", "negatives", "positions"):
            require(getattr(self, key) >= 1, f"client.{key}", getattr(self, key), "at least 1")
        require(
            self.execution in EXECUTIONS,
            "client.execution",
            self.execution,
            f"one of {', '.join(EXECUTIONS)}",
        )
        require(
            self.precision in PRECISIONS,
            "client.precision",
            self.precision,
            f"one of {', '.join(PRECISIONS)}",
        )
        require(
            self.execution != "batched" or self.local_steps == 1,
            "client.execution",
            self.execution,
            f"stacked, loop or auto with client.local_steps={self.local_steps}",
        )
        require(
            self.execution != "batched" or self.optimizer == "sgd",
            "client.execution",
            self.execution,
            f"stacked, loop or auto with client.optimizer={self.optimizer}",
        )


@dataclass(frozen=True)
class StrategySettings:
    """What the server does with the averaged change."""

    optimizer: str
    learning_rate: float
    cooldown: float
    """Share of a stage's rounds, its last ones, in which the learning rate falls; see
    `strategies/pace.py`."""
    beta_1: float
    beta_2: float
    epsilon: float
    patience: int
    """Validations without a better HR@10 after which a stage cools down, and then ends."""
    min_fit_clients: int
    """Usable replies without which a round stops the run, or all where fewer nodes are asked. Where
    `federation.nodes` is `auto`, a run on real nodes waits for so many at its start."""
    round_timeout: float
    """Seconds to wait for the replies of a round; a node that takes longer is left out of it."""
    aggregation: str
    """Of the nodes' changes, one of `AGGREGATIONS`; all but `mean` weigh every node alike."""
    bad_share: float
    """Share of the nodes that may be bad: `trimmed_mean` cuts it off at both ends of each number,
    `krum` looks for a node that the others agree with."""
    guard_ratio: float | None
    """An update that is not finite, or whose norm is above this many times the median, is left out;
    null: all are taken as they come."""
    guard_direction: bool
    """Whether an update that points the wrong way is left out too, where single updates are seen
    and the item embeddings train; see `fedmem/core/training/guard.py`."""
    loss_limit: float | None
    """A loss above this many times the stage's lowest stops the stage; null: none does."""
    collapse: float | None
    """A validation HR@10 below this share of the best stops the stage; null: none does."""

    def __post_init__(self) -> None:
        require(
            self.optimizer in SERVER_OPTIMIZERS,
            "strategy.optimizer",
            self.optimizer,
            f"one of {', '.join(SERVER_OPTIMIZERS)}",
        )
        require(self.learning_rate > 0, "strategy.learning_rate", self.learning_rate, "above 0")
        require(0 <= self.cooldown <= 1, "strategy.cooldown", self.cooldown, "in [0, 1]")
        for key in ("beta_1", "beta_2"):
            require(0 <= getattr(self, key) < 1, f"strategy.{key}", getattr(self, key), "in [0,1)")
        require(self.epsilon > 0, "strategy.epsilon", self.epsilon, "above 0")
        require(self.patience >= 1, "strategy.patience", self.patience, "at least 1")
        require(
            self.min_fit_clients >= 1,
            "strategy.min_fit_clients",
            self.min_fit_clients,
            "at least 1",
        )
        require(
            self.round_timeout > 0, "strategy.round_timeout", self.round_timeout, "above 0 seconds"
        )
        require(
            self.aggregation in AGGREGATIONS,
            "strategy.aggregation",
            self.aggregation,
            f"one of {', '.join(AGGREGATIONS)}",
        )
        require(
            0 < self.bad_share < 0.5, "strategy.bad_share", self.bad_share, "above 0, below 0.5"
        )
        for key in ("guard_ratio", "loss_limit"):
            value = getattr(self, key)
            require(value is None or value > 1, f"strategy.{key}", value, "above 1, or null")
        require(
            self.collapse is None or 0 < self.collapse < 1,
            "strategy.collapse",
            self.collapse,
            "above 0, below 1, or null",
        )


@dataclass(frozen=True)
class FederationSettings:
    """Who takes part, and for how long."""

    rounds: int | None
    """Rounds of each stage; null: the stage's own (`fedmem/core/stages.py`)."""
    fraction: float
    """Share of the users that train in one round."""
    num_clients: int | None
    """Users that take part at all; null: everybody."""
    nodes: Any
    """Simulated nodes that share the users' work evenly: a whole number, or `auto` for one a
    worker."""
    evaluate_every: int
    """Rounds between two validations."""

    def __post_init__(self) -> None:
        require(
            self.rounds is None or self.rounds >= 1, "federation.rounds", self.rounds, "at least 1"
        )
        require(0 < self.fraction <= 1, "federation.fraction", self.fraction, "in (0, 1]")
        require(
            self.num_clients is None or self.num_clients >= 1,
            "federation.num_clients",
            self.num_clients,
            "at least 1",
        )
        require(
            self.nodes == "auto" or (type(self.nodes) is int and self.nodes >= 1),
            "federation.nodes",
            self.nodes,
            "a whole number from 1, or auto",
        )
        require(
            self.evaluate_every >= 1, "federation.evaluate_every", self.evaluate_every, "at least 1"
        )


@dataclass(frozen=True)
class CentralisedSettings:
    """Training on pooled data (`python -m fedmem.centralised`), which a federation cannot do."""

    epochs: int
    batch: int
    """Windows a step."""
    windows: int
    """Training windows a user, in the place of `client.windows`."""
    learning_rate: float
    """Of Adam."""

    def __post_init__(self) -> None:
        for key in ("epochs", "batch", "windows"):
            value = getattr(self, key)
            require(value >= 1, f"centralised.{key}", value, "at least 1")
        require(self.learning_rate > 0, "centralised.learning_rate", self.learning_rate, "above 0")
