"""Every setting of a run: its type, its range and what it means.

The values live in `conf/` (Hydra); these frozen dataclasses hold no defaults, so that there is one
place to look for each number. Building one with a value out of range raises `FedmemError`.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

import dacite

from fedmem.errors import FedmemError
from fedmem.schema import require_schema

FORMATS = (
    "auto",
    "ratings",
    "pairs",
    "sequences",
    "csv",
    "tsv",
    "recbole",
    "jsonl",
    "parquet",
)
DUPLICATES = ("keep", "first", "last")
EXPERTS = ("visual", "semantic", "identity")
EXECUTIONS = ("auto", "batched", "stacked", "loop")
PRECISIONS = ("float32", "bfloat16")
SERVER_OPTIMIZERS = ("none", "adam", "momentum")
AGGREGATIONS = ("mean", "median", "trimmed_mean", "krum")
LOCAL_OPTIMIZERS = ("sgd", "adam")
CONTENTS = ("real", "without_picture", "without_text", "shuffled", "random")
DEVICES = ("auto", "cpu", "cuda")


def _require(holds: bool, key: str, value: object, allowed: str) -> None:
    if not holds:
        raise FedmemError(f"{key}={value} is out of range: {allowed}.")


@dataclass(frozen=True)
class ColumnSettings:
    """Names of the columns of a table; null: the usual names are recognised. That of the item also
    counts in a Parquet file of features.
    """

    user: str | None
    item: str | None
    rating: str | None
    timestamp: str | None


@dataclass(frozen=True)
class DataSettings:
    """Which interactions and content to read, and which of the interactions to keep."""

    name: str
    dir: str
    """Folder that the files below are in, where they are not named from the root."""
    path: str
    """File of the interactions, or a folder that holds one under a name that is recognised."""
    format: str
    """One of `FORMATS`: `auto` recognises it by the first lines (`fedmem/data/formats.py`)."""
    encoding: str
    """Of text."""
    columns: ColumnSettings
    min_rating: float | None
    """Interactions with a lower rating are dropped."""
    duplicates: str
    """What happens to a user's repeated interactions with an item, one of `DUPLICATES`."""
    min_interactions: int
    """Users with fewer interactions are dropped."""
    k_core: int | None
    """Users and items with fewer interactions are dropped until none has fewer."""
    most_active_users: int | None
    """Only so many users stay, those with most interactions."""
    max_history: int | None
    """Only so many interactions of a user stay, the latest."""
    visual_file: str | None
    """Item features, see `fedmem/data/vectors.py`; null: the data have none of this kind. Without
    both only stage 1 can run."""
    text_file: str | None
    catalogue_file: str | None
    """Ids of all items, one a line, for nodes that have each seen some of them; null: the items of
    the interactions."""
    first_index: int
    """Index of the first user, where nodes bring data of their own; the users of one data set are
    counted from 0."""

    def __post_init__(self) -> None:
        _require(self.first_index >= 0, "data.first_index", self.first_index, "at least 0")
        _require(self.format in FORMATS, "data.format", self.format, f"one of {', '.join(FORMATS)}")
        _require(_is_encoding(self.encoding), "data.encoding", self.encoding, "utf-8, latin-1, …")
        _require(
            self.duplicates in DUPLICATES,
            "data.duplicates",
            self.duplicates,
            f"one of {', '.join(DUPLICATES)}",
        )
        for key in ("min_interactions", "max_history"):
            value = getattr(self, key)
            _require(
                value is None or value >= 3,
                f"data.{key}",
                value,
                "leave-one-out needs at least 3 interactions a user",
            )
        for key in ("k_core", "most_active_users"):
            value = getattr(self, key)
            _require(value is None or value >= 1, f"data.{key}", value, "at least 1, or null")


def _is_encoding(name: str) -> bool:
    try:
        return bool(codecs.lookup(name))
    except LookupError:
        return False


@dataclass(frozen=True)
class ModelSettings:
    """Sizes of the recommender."""

    dim: int
    blocks: int
    heads: int
    feedforward: int
    max_length: int
    """Window length: the most recent items that the backbone sees."""
    dropout: float
    gating_hidden: int
    experts: list[str]
    semantic_heads: int
    router_hidden: int

    def __post_init__(self) -> None:
        for key in (
            "dim",
            "blocks",
            "heads",
            "feedforward",
            "max_length",
            "gating_hidden",
            "router_hidden",
        ):
            _require(getattr(self, key) >= 1, f"model.{key}", getattr(self, key), "at least 1")
        _require(
            self.dim % self.heads == 0, "model.heads", self.heads, f"must divide dim {self.dim}"
        )
        _require(
            self.semantic_heads >= 1 and self.dim % self.semantic_heads == 0,
            "model.semantic_heads",
            self.semantic_heads,
            f"must divide dim {self.dim}",
        )
        _require(0.0 <= self.dropout < 1.0, "model.dropout", self.dropout, "in [0, 1)")
        _require(
            0 < len(self.experts) == len(set(self.experts)) and set(self.experts) <= set(EXPERTS),
            "model.experts",
            self.experts,
            f"a non-empty choice of {', '.join(EXPERTS)}",
        )


@dataclass(frozen=True)
class MemorySettings:
    """The two-tier memory of one user."""

    short_term_capacity: int
    long_term_capacity: int
    threshold: Any
    """Novelty from which an item enters the long-term tier: a number, or `auto`."""
    write_ratio: float
    """Share of interactions that `auto` lets into the long-term tier."""
    merge_similarity: float
    surprise_threshold: float
    """Loss from which an item without content enters the long-term tier."""
    half_life: float
    """Interactions after which the recency part of an entry's utility has halved."""
    top_k: int
    short_term_share: float
    """Share of the `top_k` retrieved entries that come from the short-term tier."""

    def __post_init__(self) -> None:
        for key in ("short_term_capacity", "long_term_capacity", "top_k"):
            _require(getattr(self, key) >= 1, f"memory.{key}", getattr(self, key), "at least 1")
        _require(
            self.top_k <= self.short_term_capacity + self.long_term_capacity,
            "memory.top_k",
            self.top_k,
            f"at most {self.short_term_capacity + self.long_term_capacity}, what both tiers hold "
            "together (memory.short_term_capacity, memory.long_term_capacity)",
        )
        _require(
            self.threshold == "auto"
            or (type(self.threshold) in (int, float) and 0 <= self.threshold <= 2),
            "memory.threshold",
            self.threshold,
            "a number in [0, 2], or auto",
        )
        _require(0 < self.write_ratio < 1, "memory.write_ratio", self.write_ratio, "in (0, 1)")
        _require(
            -1 <= self.merge_similarity <= 2,
            "memory.merge_similarity",
            self.merge_similarity,
            "a cosine in [-1, 1], or up to 2 to merge nothing",
        )
        _require(
            self.surprise_threshold >= 0,
            "memory.surprise_threshold",
            self.surprise_threshold,
            "at least 0",
        )
        _require(self.half_life > 0, "memory.half_life", self.half_life, "above 0")
        _require(
            0 <= self.short_term_share <= 1,
            "memory.short_term_share",
            self.short_term_share,
            "in [0, 1]",
        )


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
        _require(
            self.optimizer in LOCAL_OPTIMIZERS,
            "client.optimizer",
            self.optimizer,
            f"one of {', '.join(LOCAL_OPTIMIZERS)}",
        )
        _require(self.learning_rate > 0, "client.learning_rate", self.learning_rate, "above 0")
        _require(
            self.micro_batch is None or self.micro_batch >= 1,
            "client.micro_batch",
            self.micro_batch,
            "at least 1, or null",
        )
        for key in ("local_steps", "windows", "negatives", "positions"):
            _require(getattr(self, key) >= 1, f"client.{key}", getattr(self, key), "at least 1")
        _require(
            self.execution in EXECUTIONS,
            "client.execution",
            self.execution,
            f"one of {', '.join(EXECUTIONS)}",
        )
        _require(
            self.precision in PRECISIONS,
            "client.precision",
            self.precision,
            f"one of {', '.join(PRECISIONS)}",
        )
        _require(
            self.execution != "batched" or self.local_steps == 1,
            "client.execution",
            self.execution,
            f"stacked, loop or auto with client.local_steps={self.local_steps}",
        )
        _require(
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
    and the item embeddings train; see `fedmem/training/guard.py`."""
    loss_limit: float | None
    """A loss above this many times the stage's lowest stops the stage; null: none does."""
    collapse: float | None
    """A validation HR@10 below this share of the best stops the stage; null: none does."""

    def __post_init__(self) -> None:
        _require(
            self.optimizer in SERVER_OPTIMIZERS,
            "strategy.optimizer",
            self.optimizer,
            f"one of {', '.join(SERVER_OPTIMIZERS)}",
        )
        _require(self.learning_rate > 0, "strategy.learning_rate", self.learning_rate, "above 0")
        _require(0 <= self.cooldown <= 1, "strategy.cooldown", self.cooldown, "in [0, 1]")
        for key in ("beta_1", "beta_2"):
            _require(0 <= getattr(self, key) < 1, f"strategy.{key}", getattr(self, key), "in [0,1)")
        _require(self.epsilon > 0, "strategy.epsilon", self.epsilon, "above 0")
        _require(self.patience >= 1, "strategy.patience", self.patience, "at least 1")
        _require(
            self.min_fit_clients >= 1,
            "strategy.min_fit_clients",
            self.min_fit_clients,
            "at least 1",
        )
        _require(
            self.round_timeout > 0, "strategy.round_timeout", self.round_timeout, "above 0 seconds"
        )
        _require(
            self.aggregation in AGGREGATIONS,
            "strategy.aggregation",
            self.aggregation,
            f"one of {', '.join(AGGREGATIONS)}",
        )
        _require(
            0 < self.bad_share < 0.5, "strategy.bad_share", self.bad_share, "above 0, below 0.5"
        )
        for key in ("guard_ratio", "loss_limit"):
            value = getattr(self, key)
            _require(value is None or value > 1, f"strategy.{key}", value, "above 1, or null")
        _require(
            self.collapse is None or 0 < self.collapse < 1,
            "strategy.collapse",
            self.collapse,
            "above 0, below 1, or null",
        )


@dataclass(frozen=True)
class FederationSettings:
    """Who takes part, and for how long."""

    rounds: int | None
    """Rounds of each stage; null: the stage's own (`fedmem/stages.py`)."""
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
        _require(
            self.rounds is None or self.rounds >= 1, "federation.rounds", self.rounds, "at least 1"
        )
        _require(0 < self.fraction <= 1, "federation.fraction", self.fraction, "in (0, 1]")
        _require(
            self.num_clients is None or self.num_clients >= 1,
            "federation.num_clients",
            self.num_clients,
            "at least 1",
        )
        _require(
            self.nodes == "auto" or (type(self.nodes) is int and self.nodes >= 1),
            "federation.nodes",
            self.nodes,
            "a whole number from 1, or auto",
        )
        _require(
            self.evaluate_every >= 1, "federation.evaluate_every", self.evaluate_every, "at least 1"
        )


@dataclass(frozen=True)
class LossSettings:
    """Loss weights; null: the stage's own (`fedmem/stages.py`)."""

    identity: float | None
    score: float | None
    content: float | None
    alignment: float | None
    hardness: float | None
    load_balance: float | None

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            _require(value is None or value >= 0, f"loss.{key}", value, "at least 0")


@dataclass(frozen=True)
class EvaluationSettings:
    """How rankings are made."""

    negatives: int
    """Never-touched items that the `sampled` ranking sets beside the positive."""
    cold_items: float
    """Share of the items that is kept from training, to be ranked by content alone."""

    def __post_init__(self) -> None:
        _require(self.negatives >= 1, "evaluation.negatives", self.negatives, "at least 1")
        _require(
            0 <= self.cold_items < 1, "evaluation.cold_items", self.cold_items, "from 0 to below 1"
        )


@dataclass(frozen=True)
class AblationSettings:
    """Controls: what a run goes without, to see what it was worth."""

    content: str
    """What stands in the place of the items' content, one of `CONTENTS`: `shuffled` gives each item
    another's, `random` noise of the same length."""
    memory: bool
    """Whether the experts read the memory; if not, every read finds it empty."""

    def __post_init__(self) -> None:
        _require(
            self.content in CONTENTS,
            "ablation.content",
            self.content,
            f"one of {', '.join(CONTENTS)}",
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
            _require(value >= 1, f"centralised.{key}", value, "at least 1")
        _require(self.learning_rate > 0, "centralised.learning_rate", self.learning_rate, "above 0")


@dataclass(frozen=True)
class CheckpointSettings:
    """Where checkpoints are written, and where a stage finds its predecessors."""

    dir: str
    pretrain_sasrec: str | None
    align_projectors: str | None


@dataclass(frozen=True)
class SimulationSettings:
    """Flower's Ray simulation, on this machine or on a cluster."""

    ray_address: str | None
    """A Ray cluster to join, as host:port or `auto`; null: a Ray of this run's own.

    The command runs on one of the cluster's machines, and each of them has this package and the
    data under the same paths."""
    device: str
    """`cpu`, `cuda`, or `auto`: CUDA where there is a GPU. On a cluster with GPUs only the machines
    that have one take part, unless it is `cpu`."""
    workers: int
    """Ray workers; 0: one for each node, as many as fit. On a cluster Flower starts as many as its
    even shares of the cores make, which can be a few more."""
    workers_per_gpu: int
    """Workers that share one GPU."""
    threads: int
    """Torch threads of each worker; 0: the cores shared evenly between the workers."""
    keep_ranks: bool
    """Whether the nodes tell each user's ranks of the test, under an index, for `ranks.npz`. A real
    federation is never asked for them."""

    def __post_init__(self) -> None:
        _require(
            self.ray_address is None
            or re.fullmatch(r"auto|[^\s/]+:\d+", self.ray_address) is not None,
            "simulation.ray_address",
            self.ray_address,
            "host:port, auto or null",
        )
        _require(
            self.device in DEVICES, "simulation.device", self.device, f"one of {', '.join(DEVICES)}"
        )
        _require(self.workers >= 0, "simulation.workers", self.workers, "at least 0")
        _require(
            self.workers_per_gpu >= 1,
            "simulation.workers_per_gpu",
            self.workers_per_gpu,
            "at least 1",
        )
        _require(self.threads >= 0, "simulation.threads", self.threads, "at least 0")


@dataclass(frozen=True)
class TrackingSettings:
    """Who is told of a run while it goes, see `fedmem.tracking`."""

    tensorboard: bool
    """Whether its folder gets TensorBoard's events."""
    mlflow: bool
    """Whether it is a run in MLflow too, in the store that MLFLOW_TRACKING_URI names."""


@dataclass(frozen=True)
class RunSettings:
    """What the command does with runs that were begun before."""

    resume: str | None
    """The folder of a run that goes on, with its own settings; `auto`: the newest unfinished run
    that was asked for with the same settings, if there is one; null: a new run."""


@dataclass(frozen=True)
class Settings:
    """One run."""

    seed: int
    stages: list[str]
    output_dir: str
    data: DataSettings
    model: ModelSettings
    memory: MemorySettings
    client: ClientSettings
    strategy: StrategySettings
    federation: FederationSettings
    loss: LossSettings
    evaluation: EvaluationSettings
    ablation: AblationSettings
    centralised: CentralisedSettings
    checkpoint: CheckpointSettings
    simulation: SimulationSettings
    tracking: TrackingSettings
    run: RunSettings

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", self.seed, "at least 0")

    def to_json(self) -> str:
        """The settings as one line of JSON, the form in which they travel to the nodes."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The inverse of `to_json`."""
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """Settings from nested dictionaries.

        Raises:
            FedmemError: a key is unknown or missing, or a value is of the wrong type or range.
        """
        require_schema(cls, values)
        return dacite.from_dict(cls, values)
