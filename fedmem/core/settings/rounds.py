"""Settings of a round: the users, the server, the way between them, and pooled training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fedmem.core.settings.ranges import Count, Positive, Share, above, one_of, within
from fedmem.core.settings.schema import Auto, Section

Momentum = Annotated[float, within("[0, 1)")]
Multiple = Annotated[float, above(1)]


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
