"""Settings of what is learned: the model, the memory, the losses and the stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fedmem.core.settings.ranges import (
    Count,
    Positive,
    Share,
    at_least,
    one_of,
    some_of,
    within,
)
from fedmem.core.settings.schema import Auto, Section
from fedmem.core.stages import Stage

ITEM_STARTS = ("random", "content")
Weight = TypeVar("Weight")
NonNegative = Annotated[float, at_least(0)]


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
