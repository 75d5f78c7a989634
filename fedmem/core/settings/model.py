"""What is trained: the model, the memory that it reads, and the terms of its loss."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fedmem.core.settings.ranges import require

EXPERTS = ("visual", "semantic", "identity")


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
            require(getattr(self, key) >= 1, f"model.{key}", getattr(self, key), "at least 1")
        require(
            self.dim % self.heads == 0, "model.heads", self.heads, f"must divide dim {self.dim}"
        )
        require(
            self.semantic_heads >= 1 and self.dim % self.semantic_heads == 0,
            "model.semantic_heads",
            self.semantic_heads,
            f"must divide dim {self.dim}",
        )
        require(0.0 <= self.dropout < 1.0, "model.dropout", self.dropout, "in [0, 1)")
        require(
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
            require(getattr(self, key) >= 1, f"memory.{key}", getattr(self, key), "at least 1")
        require(
            self.top_k <= self.short_term_capacity + self.long_term_capacity,
            "memory.top_k",
            self.top_k,
            f"at most {self.short_term_capacity + self.long_term_capacity}, what both tiers hold "
            "together (memory.short_term_capacity, memory.long_term_capacity)",
        )
        require(
            self.threshold == "auto"
            or (type(self.threshold) in (int, float) and 0 <= self.threshold <= 2),
            "memory.threshold",
            self.threshold,
            "a number in [0, 2], or auto",
        )
        require(0 < self.write_ratio < 1, "memory.write_ratio", self.write_ratio, "in (0, 1)")
        require(
            -1 <= self.merge_similarity <= 2,
            "memory.merge_similarity",
            self.merge_similarity,
            "a cosine in [-1, 1], or up to 2 to merge nothing",
        )
        require(
            self.surprise_threshold >= 0,
            "memory.surprise_threshold",
            self.surprise_threshold,
            "at least 0",
        )
        require(self.half_life > 0, "memory.half_life", self.half_life, "above 0")
        require(
            0 <= self.short_term_share <= 1,
            "memory.short_term_share",
            self.short_term_share,
            "in [0, 1]",
        )


@dataclass(frozen=True)
class LossSettings:
    """Loss weights; null: the stage's own (`fedmem/core/stages.py`)."""

    identity: float | None
    score: float | None
    content: float | None
    alignment: float | None
    hardness: float | None
    load_balance: float | None

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            require(value is None or value >= 0, f"loss.{key}", value, "at least 0")
