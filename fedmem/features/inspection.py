"""What can be measured of feature files before anything is trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import Floats
from fedmem.core.evaluation.feature_quality import (
    ContentStart,
    NeighbourSimilarity,
    content_start,
    neighbour_similarity,
)
from fedmem.core.memory import auto_threshold, item_vectors, written_share
from fedmem.core.memory.kernel import BINS
from fedmem.core.node import Node
from fedmem.core.settings import Settings

NORM_QUANTILES = (0.05, 0.5, 0.95)
EXAMPLES, NEAREST = 5, 3


@dataclass(frozen=True)
class Kind:
    """One kind of content."""

    name: str
    width: int
    items: float
    """Share of the items that have a vector."""
    interactions: float
    """Share of the interactions that are with such items."""
    norms: list[float]
    """Lengths of the vectors at `NORM_QUANTILES`."""
    similarity: NeighbourSimilarity


@dataclass(frozen=True)
class Example:
    """An item, and by kind the items whose vectors are nearest to its own."""

    title: str
    nearest: dict[str, list[tuple[str, float]]]
    """Title and cosine, the nearest first."""


@dataclass(frozen=True)
class Inspection:
    """All that the command shows."""

    data: str
    users: int
    items: int
    interactions: int
    kinds: list[Kind]
    """Text, visual, and `both` where there are both: what novelty compares."""
    novelty: npt.NDArray[np.int64]
    """Over [0, 2], of the training interactions: `fedmem.core.memory.novelty_histogram`."""
    threshold: float
    """What `memory.threshold=auto` takes, to come near `write_ratio`."""
    write_ratio: float
    examples: list[Example]
    start: ContentStart

    @property
    def written(self) -> float:
        """Share of the training interactions that are as novel as the threshold."""
        return written_share(self.novelty, self.threshold)

    def novelty_quantile(self, share: float) -> float:
        """Novelty that this share of the training interactions stays below, to a bin's width."""
        place = int(np.searchsorted(np.cumsum(self.novelty), share * self.novelty.sum()))
        return (place + 0.5) * 2 / BINS


def inspect(settings: Settings, titles: Mapping[str, str]) -> Inspection:
    """Measure the features of a run's data, as the run would read them; its seed draws examples.

    Titles are by the data's own item ids; an item without one is called by its id.

    Raises:
        FedmemError: interactions or features cannot be read.
    """
    node = Node(settings)
    interactions = node.interactions
    content = {"text": node.content.text.numpy(), "visual": node.content.visual.numpy()}
    vectors: dict[str, Floats] = {kind: rows for kind, rows in content.items() if rows.any()}
    if len(vectors) > 1:
        vectors["both"] = node.corpus.vectors
    histogram = node.novelty_histogram()
    return Inspection(
        data=settings.data.name,
        users=interactions.num_users,
        items=interactions.num_items,
        interactions=len(interactions.items),
        kinds=[_measure(name, rows, node) for name, rows in vectors.items()],
        novelty=histogram,
        threshold=auto_threshold(histogram, settings.memory.write_ratio),
        write_ratio=settings.memory.write_ratio,
        examples=_find_examples(vectors, node, titles),
        start=content_start(node.corpus.vectors, interactions, settings.seed),
    )


def _measure(name: str, vectors: Floats, node: Node) -> Kind:
    norms = np.linalg.norm(vectors, axis=1)
    present = norms > 0
    return Kind(
        name=name,
        width=vectors.shape[1],
        items=float(present[1:].mean()),
        interactions=float(present[node.interactions.items].mean()),
        norms=np.quantile(norms[present], NORM_QUANTILES).tolist(),
        similarity=neighbour_similarity(vectors, node.interactions, node.settings.seed),
    )


def _find_examples(
    vectors: Mapping[str, Floats], node: Node, titles: Mapping[str, str]
) -> list[Example]:
    """Items drawn by how often they occur, among those that have every kind of content."""
    interactions = node.interactions
    unit = {name: item_vectors(rows, rows[:, :0]) for name, rows in vectors.items()}
    complete = np.all([rows.any(axis=1) for rows in unit.values()], axis=0)
    counts = np.bincount(interactions.items, minlength=len(complete)) * complete
    pool = np.flatnonzero(counts)
    drawn = np.random.default_rng(node.settings.seed).choice(
        pool, min(EXAMPLES, len(pool)), replace=False, p=counts[pool] / counts.sum()
    )
    names = [titles.get(own) or f"item {own}" for own in map(str, interactions.item_ids)]
    examples = []
    for item in drawn:
        nearest = {}
        for name, rows in unit.items():
            cosines = rows @ rows[item]
            cosines[[0, item]] = -np.inf
            best = np.argsort(-cosines, kind="stable")[:NEAREST]
            nearest[name] = [(names[other], float(cosines[other])) for other in best]
        examples.append(Example(names[item], nearest))
    return examples
