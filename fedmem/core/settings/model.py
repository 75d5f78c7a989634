"""What is trained: the model, and the memory that it reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fedmem.core.settings.ranges import Count, Positive, Share, at_least, some_of, within
from fedmem.core.settings.schema import Auto, Section


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
