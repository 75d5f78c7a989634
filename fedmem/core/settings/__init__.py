"""Every setting of a run: its type, its range and what it means.

The values live in `conf/` (Hydra); these frozen dataclasses hold no defaults, so that there is one
place to look for each number. Building one with a value out of range raises `FedmemError`.
docs/settings.md is made from them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Generic, TypeVar

from fedmem.core.errors import FedmemError
from fedmem.core.secure_sum import FEWEST, MODULI
from fedmem.core.settings.ranges import Range, above, at_least, is_encoding, one_of, some_of, within
from fedmem.core.settings.schema import Auto, Section
from fedmem.core.stages import ALL_STAGES, CENTRALISED, Stage

FORMATS = (
    "auto",
    "ratings",
    "pairs",
    "sequences",
    "csv",
    "tsv",
    "recbole",
    "jsonl",
    "json",
    "parquet",
    "feather",
)
ITEM_STARTS = ("random", "content")
CONTENTS = ("real", "without_picture", "without_text", "shuffled", "random")
DEVICES = ("auto", "cpu", "cuda")
Count = Annotated[int, at_least(1)]
Share = Annotated[float, within("[0, 1]")]
Positive = Annotated[float, above(0)]
History = Annotated[int, at_least(3, ", as leave-one-out needs")]
Weight = TypeVar("Weight")
Momentum = Annotated[float, within("[0, 1)")]
Multiple = Annotated[float, above(1)]
NonNegative = Annotated[float, at_least(0)]
Modulus = Range("16 or 32", lambda value: value in MODULI)
Address = Range("host:port", lambda value: re.fullmatch(r"[^\s/]+:\d+", value) is not None)


@dataclass(frozen=True)
class ColumnSettings(Section, key="data.columns"):
    """Names of the columns of a table; null: the usual names are recognised."""

    user: str | None
    """Column of the users."""
    item: str | None
    """Column of the items."""
    rating: str | None
    """Column of the ratings."""
    timestamp: str | None
    """Column of the times."""
    order: list[str] | None
    """Names of all columns of a file without a header, in their order, as
    `[user,timestamp,item,other]`; null: they are guessed from their number."""

    def __hash__(self) -> int:
        return hash(repr(self))


@dataclass(frozen=True)
class DataSettings(Section, key="data"):
    """Which interactions and content to read, and which of the interactions to keep."""

    name: str
    """Name of the data, used for folders of runs and checkpoints."""
    dir: str
    """Folder that the files below are in, where they are not named from the root."""
    path: str | list[str]
    """File of the interactions, or several that are parts of one or the splits of it; or a folder
    that holds such under names that are recognised."""
    format: Annotated[str, one_of(*FORMATS)]
    """Form of that file; `auto` recognises it by the first lines, see docs/data.md."""
    encoding: Annotated[str, Range("utf-8, latin-1, …", is_encoding)]
    """Encoding of its text."""
    columns: ColumnSettings
    missing: Annotated[str, one_of("refuse", "drop", "keep")]
    """What becomes of interactions without a user, an item or a time, or with a word for that, as
    NaN or NULL: they end the command, or are left out and counted; `keep` takes the words for ids
    like others."""
    min_rating: float | None
    """Interactions with a lower rating are dropped; null: none are."""
    duplicates: Annotated[str, one_of("keep", "first", "last")]
    """Which of a user's repeated interactions with an item stay."""
    min_interactions: History
    """Users with fewer interactions are dropped."""
    k_core: Count | None
    """Users and items with fewer interactions are dropped until none has fewer."""
    most_active_users: Count | None
    """Only so many users stay, those with most interactions."""
    max_history: History | None
    """Only so many interactions of a user stay, the latest."""
    visual_file: str | None
    """Visual item features, see `fedmem/core/data/vectors.py`; null: the data have none. Without
    both kinds only stage 1 can run."""
    text_file: str | None
    """Text item features, likewise."""
    catalogue_file: str | None
    """Ids of all items, one a line, for nodes that have each seen some of them; null: the items of
    the interactions."""
    first_index: Annotated[int, at_least(0)]
    """Index of the first user, where nodes bring data of their own; the users of one data set are
    counted from 0."""
    pictures: str | None
    """Folder or zip of the items' pictures, each `<item id>.jpg`, .jpeg, .png or .webp, which the
    page of `fedmem.serve` shows; null: it draws cards."""
    forgotten_file: str | None
    """List of what users had forgotten, which every history is read without; null:
    `forgotten.json` beside the interactions, see docs/serve.md."""

    def __hash__(self) -> int:
        return hash(repr(self))


@dataclass(frozen=True)
class EvaluationSettings(Section, key="evaluation"):
    """How rankings are made."""

    negatives: Count
    """Never-touched items that the `sampled` ranking sets beside the positive."""
    cold_items: Annotated[float, within("[0, 1)")]
    """Share of the items that is kept from training, to be ranked by content alone; see
    docs/new-items.md."""
    users: Count | None
    """Users whose held-out items are ranked, drawn once a seed: the same in all validations and the
    test, on any number of nodes. null, or more than there are: all."""


@dataclass(frozen=True)
class AblationSettings(Section, key="ablation"):
    """Controls: what a run goes without, to see what it was worth."""

    content: Annotated[str, one_of(*CONTENTS)]
    """What stands in the place of the items' content: `shuffled` gives each item another's,
    `random` noise of the same length."""
    memory: bool
    """Whether the experts read the memory; if not, every read finds it empty."""


@dataclass(frozen=True)
class ModelSettings(Section, key="model"):
    """Sizes of the recommender."""

    dim: Count
    """Width of embeddings and hidden states."""
    blocks: Count
    """Transformer blocks of the backbone."""
    heads: Count
    """Attention heads of a block; they divide `dim`."""
    feedforward: Count
    """Hidden width of a block's feedforward layers."""
    max_length: Count
    """Window length: the most recent items that the backbone sees."""
    dropout: Annotated[float, within("[0, 1)")]
    """Share of the activations that training drops."""
    gating_hidden: Count
    """Hidden width of the gating between picture and text."""
    experts: Annotated[list[str], some_of("visual", "semantic", "identity")]
    """Experts that read the memory."""
    semantic_heads: Count
    """Attention heads of the semantic expert; they divide `dim`."""
    router_hidden: Count
    """Hidden width of the router, which weighs the experts."""
    item_start: Annotated[str, one_of(*ITEM_STARTS)]
    """What item embeddings start from: at `random`, or from the items' pictures and texts, see
    docs/content.md. An item without any starts at random."""
    item_length: Positive | Auto
    """Mean length of the embeddings that start from content; `auto`: by how often items are seen.
    """
    item_whitening: Share
    """How far the components of that start are brought to equal size: 0 not at all, 1 wholly."""

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Heads that do not divide the width."""
        for name in ("heads", "semantic_heads"):
            if self.dim % getattr(self, name):
                yield name, f"must divide dim {self.dim}"


@dataclass(frozen=True)
class MemorySettings(Section, key="memory"):
    """The two-tier memory of one user."""

    short_term_capacity: Count
    """Entries of the short-term tier."""
    long_term_capacity: Count
    """Entries of the long-term tier."""
    threshold: Annotated[float, within("[0, 2]")] | Auto
    """Novelty from which an item enters the long-term tier; `auto`: as `memory.write_ratio` asks.
    """
    write_ratio: Annotated[float, within("(0, 1)")]
    """Share of interactions that `auto` lets into the long-term tier."""
    merge_similarity: Annotated[float, within("[-1, 2]")]
    """Cosine from which an item is merged into its nearest entry of the long-term tier; above 1:
    never."""
    surprise_threshold: Annotated[float, at_least(0)]
    """Loss from which an item without content enters the long-term tier."""
    half_life: Positive
    """Interactions after which the recency part of an entry's utility has halved."""
    top_k: Count
    """Entries that are retrieved at a position."""
    short_term_share: Share
    """Share of the `top_k` retrieved entries that come from the short-term tier."""

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """More entries to retrieve than both tiers hold."""
        both = self.short_term_capacity + self.long_term_capacity
        if self.top_k > both:
            tiers = "(memory.short_term_capacity, memory.long_term_capacity)"
            yield "top_k", f"at most {both}, what both tiers hold together {tiers}"


@dataclass(frozen=True)
class LossTerms(Section, Generic[Weight]):
    """A number for each term of `fedmem.core.training.objective.Objective`."""

    identity: Weight
    """Weight of the softmax cross-entropy of h·e over all items, the loss of stage 1."""
    score: Weight
    """Weight of the softmax cross-entropy of the stage's full score over sampled candidates."""
    content: Weight
    """Weight of the softmax cross-entropy of h·z̄, content in the place of the IDs, over the same
    candidates."""
    alignment: Weight
    """Weight of 1 − cos(z, e), of the target's content and ID embedding."""
    hardness: Weight
    """Extra weight of hard samples: 1 + hardness · sigmoid(cross-entropy)."""
    load_balance: Weight
    """Weight of Σ(usage − 1/E)², of the router's use of its E experts."""


@dataclass(frozen=True)
class LossWeights(LossTerms[NonNegative]):
    """Weights of the terms of a stage's loss; those of 0 are left out."""

    def minimised(self, stage: Stage) -> list[str]:
        """The terms by which a stage's parameters train; `hardness` only weighs its samples."""
        has = {"identity": stage.trains_backbone, "hardness": False, "load_balance": stage.memory}
        return [t for t, weight in vars(self).items() if weight and has.get(t, stage.content)]


@dataclass(frozen=True)
class LossSettings(LossTerms[NonNegative | None], key="loss"):
    """Loss weights of every stage of the run; null: each stage's own, in `conf/stage/`."""


@dataclass(frozen=True)
class StageSettings(Section, key="stage"):
    """A stage's own numbers, in `conf/stage/`; what it trains is in `fedmem/core/stages.py`."""

    rounds: Count
    """Rounds of training, unless patience ends it before."""
    pace: Positive
    """Multiplies `strategy.learning_rate`."""
    loss: LossWeights


@dataclass(frozen=True)
class ClientSettings(Section, key="client"):
    """How one user trains in one round."""

    optimizer: Annotated[str, one_of("sgd", "adam")]
    """Optimizer of a user's own steps; it starts afresh in every round."""
    learning_rate: Positive
    """Its learning rate."""
    local_steps: Count
    """Full-batch steps a round."""
    windows: Count
    """Training windows of `model.max_length` a user, counted from the latest."""
    candidates: Count | None
    """Items beside a target in the loss of stage 1, drawn for each round and the same for all
    users, so that a message brings no more rows than these and the histories'; null: all items."""
    negatives: Count
    """Sampled negatives a window, where a stage's score is too dear for all items."""
    positions: Count
    """Positions a window at which the memory's experts are trained."""
    micro_batch: Count | None
    """Positions computed at once; null: as suits the device. A matter of speed, not of the result.
    """
    execution: Annotated[str, one_of("auto", "batched", "stacked", "loop")]
    """How a cohort trains: all give the same, and differ in speed. `batched` is for one local step
    of SGD."""
    precision: Annotated[str, one_of("float32", "bfloat16")]
    """Precision of the matrix products of training. Rankings are made in float32."""

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """One batch of all users, where each user's parameters go their own way."""
        for name, needed in {"local_steps": 1, "optimizer": "sgd"}.items():
            asked = getattr(self, name)
            if self.execution == "batched" and asked != needed:
                yield "execution", f"stacked, loop or auto with client.{name}={asked}"


@dataclass(frozen=True)
class StrategySettings(Section, key="strategy"):
    """What the server does with the averaged change."""

    optimizer: Annotated[str, one_of("none", "adam", "momentum")]
    """Server optimizer, which takes the averaged change for a gradient; `none`: it is the step."""
    learning_rate: Positive
    """Its learning rate, which each stage's `pace` multiplies."""
    cooldown: Share
    """Share of a stage's rounds, its last ones, in which the learning rate falls; see
    `fedmem/runs/schedule.py`."""
    beta_1: Momentum
    """Decay of the mean change a round, also of `momentum`."""
    beta_2: Momentum
    """Decay of the mean squared change a round."""
    epsilon: Positive
    """Added to the root of the mean squared change."""
    lazy: bool
    """Whether Adam leaves rows where they are that nobody's training has changed in a round, as
    those of items that `client.candidates` has not drawn."""
    patience: Count
    """Validations without a better HR@10 after which a stage cools down, and then ends."""
    min_nodes: Count
    """Nodes whose replies must be usable in a round, or all that were asked where they are fewer;
    else the run stops. Where `federation.nodes` is `auto`, a run on real nodes waits for so many at
    its start, or for those that a secure sum asks for."""
    round_timeout: Positive
    """Seconds to wait for the replies of a round; a node that takes longer is left out of it."""
    aggregation: Annotated[str, one_of("mean", "median", "trimmed_mean", "krum")]
    """How the nodes' changes become one; all but `mean` weigh every node alike."""
    bad_share: Annotated[float, within("(0, 0.5)")]
    """Share of the nodes that may be bad: `trimmed_mean` cuts it off at both ends of each number,
    `krum` looks for a node that the others agree with."""
    guard_ratio: Multiple | None
    """An update that is not finite, or whose norm is above this many times the median, is left out;
    null: all are taken as they come."""
    guard_direction: bool
    """Whether an update that points the wrong way is left out too, where single updates are seen
    and the item embeddings train; see `fedmem/core/updates/direction.py`."""
    loss_limit: Multiple | None
    """A loss above this many times the stage's lowest stops the stage; null: none does."""
    collapse: Annotated[float, within("(0, 1)")] | None
    """A validation HR@10 below this share of the best stops the stage; null: none does."""


@dataclass(frozen=True)
class SecureSumSettings(Section, key="privacy.secure_sum"):
    """The nodes' changes as a sum that the server cannot take apart, docs/secure-aggregation.md."""

    enabled: bool
    """Whether nodes send their changes under masks that cancel in the sum."""
    threshold: Annotated[float, within("(0.5, 1]")]
    """Share of a round's nodes that must remain until its sum is opened; with fewer of them the
    round is given up, and the run stops."""
    min_members: Annotated[int, at_least(2)]
    """Nodes that must remain in any case, the fewest whose sum is ever opened. A round begins with
    three at least."""
    modulus_bits: Annotated[int, Modulus]
    """Bits of the integers that are summed, for each number."""
    range: Positive | Auto
    """Largest change of a number that a node sends whole; it cuts what is larger. `auto`: a
    multiple of the largest in the sum of the round before."""

    def needed(self, nodes: int) -> int:
        """Of so many nodes that a round asks, those that must remain; always more than a half."""
        return max(self.min_members, math.ceil(self.threshold * nodes), nodes // 2 + 1)


@dataclass(frozen=True)
class PrivacySettings(Section, key="privacy"):
    """User-level differential privacy, see docs/privacy.md."""

    mode: Annotated[str, one_of("none", "central", "distributed")]
    """Who adds the noise: nobody, or the server, which is trusted with each user's bounded update,
    or the nodes, to integers of which the server sees nothing but the sum."""
    epsilon: Positive | None
    """The ε that all releases of the run, and of the checkpoints that it starts from, may cost."""
    delta: Annotated[float, within("(0, 1)")]
    """The δ that it is stated at; below 1 / users."""
    bound: Annotated[str, one_of("normalise", "clip")]
    """What a user's update may weigh: `normalise` divides it by its norm, `clip` shortens it to
    `privacy.clip` where it is longer."""
    clip: Positive | None
    """Longest update, for `clip`."""
    schedule: Annotated[str, one_of("poisson", "every_k", "all")]
    """Who trains in a round: each user with probability `federation.fraction`, by a secret draw of
    who adds the noise; one of 1 / `federation.fraction` blocks of users in turn, by a public order;
    or all."""
    mechanism: Annotated[str, one_of("gaussian", "banded")]
    """Whether the noise of each round is independent, or takes back a part of the rounds before,
    which `every_k` allows."""
    noise: Positive | None
    """Noise multiplier: standard deviation of the noise on a round's sum, in units of the longest
    update; null: what `privacy.epsilon` leaves for the rounds of the run."""
    figures: Annotated[str, one_of("noised", "exact")]
    """Validation and test figures: `noised` once a stage, as a part of ε; `exact` as often as
    without privacy, outside of the guarantee, for research on public data."""
    figures_noise: Positive
    """Noise multiplier of the figures, where they are noised."""
    secure_sum: SecureSumSettings

    @property
    def on(self) -> bool:
        """Whether updates are private."""
        return self.mode != "none"

    @property
    def of_nodes(self) -> bool:
        """Whether nodes add the noise, and trust nobody with what is without it."""
        return self.mode == "distributed"

    @property
    def noises_figures(self) -> bool:
        """Whether figures are a part of the promise, so that no exact one is kept beside them."""
        return self.on and self.figures == "noised"

    @property
    def fewest_nodes(self) -> int:
        """Nodes that a run has to have at its start."""
        return max(FEWEST, self.secure_sum.min_members) if self.secure_sum.enabled else 1

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """A bound without a number, noise without a budget, schedules that fit no mechanism."""
        if self.bound == "clip" and self.clip is None:
            yield "clip", "a number with privacy.bound=clip, the longest update"
        if self.on and self.epsilon is None:
            yield "epsilon", f"a number with privacy.mode={self.mode}, such as 8"
        if self.mechanism == "banded" and self.schedule != "every_k":
            yield "mechanism", f"gaussian with privacy.schedule={self.schedule}"
        if self.of_nodes and self.mechanism == "banded":  # who is lost cannot take noise back
            yield "mechanism", "gaussian with privacy.mode=distributed"
        if self.of_nodes and not self.secure_sum.enabled:
            yield "mode", "none or central with privacy.secure_sum.enabled=false"


@dataclass(frozen=True)
class TransportSettings(Section, key="transport"):
    """How parameters and updates travel, see docs/transport.md."""

    bits: Annotated[int, within("[1, 32]")]
    """Bits of a coordinate; 32: float32, and nothing is rounded. Vectors, which are few, have at
    least 8."""
    largest: Count | None
    """The largest integer of a row's grid, beside its negative; null: the largest that `bits` have.
    A smaller one makes a coarser grid, of which coding leaves less."""
    share: Annotated[float, within("(0, 1]")] | None
    """Share of a row's coordinates that travel: the largest, as their signs and the mean of their
    sizes; the others wait for the next message. null: all of them travel, each rounded."""
    feedback: bool
    """Whether what rounding left of an update, or of the server's step, is added to the next, and
    rounding is to the nearest; if not, it is at random, so that the mean is right."""
    entropy_coded: bool
    """Whether frequent integers take fewer bits than rare ones."""

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Grids beyond their bits, signs that have too many, coordinates that never travel."""
        most = max(1, (1 << (self.bits - 1)) - 1)
        if self.largest is not None and self.largest > most:
            yield "largest", f"at most {most} with transport.bits={self.bits}"
        if self.share is not None and self.bits != 2:
            yield "share", f"null with transport.bits={self.bits}: signs and zeros have 2"
        if self.share is not None and not self.feedback:
            yield "share", "null with transport.feedback=false: what does not travel would be lost"


@dataclass(frozen=True)
class FederationSettings(Section, key="federation"):
    """Who takes part, and for how long."""

    rounds: Count | None
    """Rounds of every stage of the run; null: each stage's own, in `conf/stage/`."""
    fraction: Annotated[float, within("(0, 1]")]
    """Share of the users that train in one round."""
    num_clients: Count | None
    """Users that take part at all; null: everybody."""
    nodes: Count | Auto
    """Simulated nodes that share the users' work evenly; `auto`: one a worker, and as many as a
    secure sum asks for."""
    evaluate_every: Count
    """Rounds between two validations."""


@dataclass(frozen=True)
class CentralisedSettings(Section, key="centralised"):
    """Training on pooled data (`python -m fedmem.centralised`), which a federation cannot do."""

    epochs: Count
    """Epochs over all windows, unless patience ends it before."""
    batch: Count
    """Windows a step."""
    windows: Count
    """Training windows a user, in the place of `client.windows`."""
    learning_rate: Positive
    """Learning rate of its Adam."""


@dataclass(frozen=True)
class CheckpointSettings(Section, key="checkpoint"):
    """Where checkpoints are written, and where a stage finds its predecessors."""

    dir: str
    """Folder for the checkpoints of the run's stages."""
    pretrain_sasrec: str | None
    """Checkpoint of stage 1 to start from; null: in `checkpoint.dir`."""
    align_projectors: str | None
    """Checkpoint of stage 2 to start from; null: in `checkpoint.dir`."""


@dataclass(frozen=True)
class SimulationSettings(Section, key="simulation"):
    """Flower's Ray simulation, on this machine or on a cluster."""

    ray_address: Annotated[str, Address] | Auto | None
    """A Ray cluster to join; null: a Ray of this run's own. The command runs on one of the
    cluster's machines, and each of them has this package and the data under the same paths."""
    device: Annotated[str, one_of(*DEVICES)]
    """`auto`: CUDA where there is a GPU. On a cluster with GPUs only the machines that have one
    take part, unless it is `cpu`."""
    workers: Annotated[int, at_least(0)]
    """Ray workers; 0: one for each node, as many as fit. On a cluster Flower starts as many as its
    even shares of the cores make, which can be a few more."""
    workers_per_gpu: Count
    """Workers that share one GPU: one keeps an H100 as busy as several, see docs/performance.md."""
    threads: Annotated[int, at_least(0)]
    """Torch threads of each worker; 0: the cores shared evenly between the workers."""
    keep_ranks: bool
    """Whether the nodes send each user's ranks of the test, under an index, for `ranks.npz`. A real
    federation is never asked for them."""


@dataclass(frozen=True)
class TrackingSettings(Section, key="tracking"):
    """What follows a run while it goes on, see `fedmem.runs.tracking`."""

    tensorboard: bool
    """Whether its folder gets TensorBoard's events."""
    mlflow: bool
    """Whether it is a run in MLflow too, in the store that MLFLOW_TRACKING_URI names."""


@dataclass(frozen=True)
class RunSettings(Section, key="run"):
    """What the command does with runs that were begun before."""

    resume: str | None
    """The folder of a run that goes on, with its own settings; `auto`: the newest unfinished run
    that was asked for with the same settings, if there is one; null: a new run."""


@dataclass(frozen=True)
class Settings(Section):
    """Settings of a run: its sections, and what belongs to none of them."""

    seed: Annotated[int, at_least(0)]
    """Seed of every random draw."""
    stage: Annotated[dict[str, StageSettings], (*ALL_STAGES, CENTRALISED.name)]
    """The stages of the run, in order."""
    output_dir: str
    """Folder of the run."""
    data: DataSettings
    model: ModelSettings
    memory: MemorySettings
    client: ClientSettings
    strategy: StrategySettings
    privacy: PrivacySettings
    transport: TransportSettings
    federation: FederationSettings
    loss: LossSettings
    evaluation: EvaluationSettings
    ablation: AblationSettings
    centralised: CentralisedSettings
    checkpoint: CheckpointSettings
    simulation: SimulationSettings
    tracking: TrackingSettings
    run: RunSettings

    def __post_init__(self, at: str | None) -> None:
        super().__post_init__(at)
        privacy = self.privacy
        found: dict[str, Iterator[tuple[str, Any, str]]] = {}
        if privacy.on:
            found[f"privacy.mode={privacy.mode}"] = self._not_private()
        if privacy.secure_sum.enabled:
            found["privacy.secure_sum.enabled=true"] = self._not_summed()
        for beside, those in found.items():
            for key, value, instead in those:
                raise FedmemError(f"{key}={value} does not go with {beside}: {instead}.")

    def _not_private(self) -> Iterator[tuple[str, Any, str]]:
        """Settings that would release more than the ledger counts: key, value, what to do."""
        if self.strategy.aggregation != "mean":
            yield "strategy.aggregation", self.strategy.aggregation, "take mean"
        if self.transport.bits < 32:  # what rounding does to a bounded update is not bounded
            yield "transport.bits", self.transport.bits, "take transport=float32"
        if self.privacy.schedule == "all" and self.federation.fraction != 1:
            yield "privacy.schedule", "all", "set federation.fraction=1, or another schedule"
        if self.model.item_length == "auto" and self.starts_from_content:
            yield "model.item_length", "auto", "it is found from the interactions; set a number"
        if self.memory.threshold == "auto" and any(
            ALL_STAGES[name].memory for name in self.stage if name in ALL_STAGES
        ):
            yield "memory.threshold", "auto", "it is found from the histories; set a number"
        if self.privacy.figures == "noised" and self.evaluation.cold_items:
            yield "evaluation.cold_items", self.evaluation.cold_items, "take privacy.figures=exact"
        cut = self.privacy.secure_sum.range
        if self.privacy.of_nodes and cut != "auto":  # which counts what is cut
            yield "privacy.secure_sum.range", cut, "bounded updates have a range; set auto"
        if CENTRALISED.name in self.stage:
            yield "stage", CENTRALISED.name, "pooled training knows no privacy"

    def _not_summed(self) -> Iterator[tuple[str, Any, str]]:
        """Settings that look at single nodes, where these are summed unseen: the same."""
        strategy, nodes, fewest = self.strategy, self.federation.nodes, self.privacy.fewest_nodes
        if strategy.aggregation != "mean":
            yield "strategy.aggregation", strategy.aggregation, "take mean"
        if strategy.guard_ratio is not None and not self.privacy.on:
            yield "strategy.guard_ratio", strategy.guard_ratio, "no single change is seen; set null"
        if strategy.guard_direction and not self.privacy.on:
            yield "strategy.guard_direction", "true", "no single change is seen; set false"
        if nodes != "auto" and nodes < fewest:
            yield "federation.nodes", nodes, f"take at least {fewest}"

    def of_stage(self, name: str) -> StageSettings:
        """The numbers of a stage: its own, but for those that the run sets for all of its stages.

        Raises:
            FedmemError: the stage is none of the run's.
        """
        if name not in self.stage:
            raise FedmemError(f"{name} is none of this run's stages: {', '.join(self.stage)}.")
        own = self.stage[name]
        weights = {term: weight for term, weight in vars(self.loss).items() if weight is not None}
        rounds = self.federation.rounds or own.rounds
        return replace(own, rounds=rounds, loss=replace(own.loss, **weights))

    @property
    def starts_from_content(self) -> bool:
        """Whether a stage of the run makes an item table, and makes it from the items' content."""
        makes = any(ALL_STAGES[name].makes_table for name in self.stage if name in ALL_STAGES)
        return self.model.item_start == "content" and (makes or CENTRALISED.name in self.stage)

    @property
    def reads_content(self) -> bool:
        """Whether the run needs the items' content at all."""
        stages = (ALL_STAGES[name] for name in self.stage if name in ALL_STAGES)
        return self.starts_from_content or any(stage.reads_content for stage in stages)

    def to_json(self) -> str:
        """The settings as one line of JSON, the form in which they travel to the nodes."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The inverse of `to_json`."""
        return cls.from_dict(json.loads(text))


def flattened(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by their dotted keys, in order; `stage` has the names of the run's stages.

    Of a run of an earlier version they may have `stages`, a list of names, and no numbers of them.
    """
    rest = {name: value for name, value in settings.items() if name != "stages"}
    return {"stage": list(settings.get("stages", settings.get("stage", ()))), **_flat(rest)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = prefix + name
        flat |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return flat
