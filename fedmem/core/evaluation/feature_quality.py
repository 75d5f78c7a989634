"""How well vectors fit histories: whether neighbours in time are more alike than other items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import ranges
from fedmem.core.data import Interactions
from fedmem.core.evaluation.statistics import bootstrap_interval
from fedmem.core.model.item_start import usual_length

RESAMPLES = 2000
COVERED = 0.5
"""Share of the interactions that has to be with items that have content, if it is to be a start."""
RARELY = 100
"""Training interactions an item below which a start from content shows at the end of training."""


@dataclass(frozen=True)
class NeighbourSimilarity:
    """Mean cosines of pairs of items, and the 95% confidence interval of their difference.

    All NaN where fewer than two users have a pair.
    """

    neighbours: float
    """Of an item and the one that follows it in a history."""
    random: float
    """Of the same item and one from a random place of all histories."""
    difference: float
    """`neighbours` − `random`."""
    low: float
    high: float


def neighbour_similarity(
    vectors: npt.NDArray[np.floating], interactions: Interactions, seed: int, pairs: int = 10_000
) -> NeighbourSimilarity:
    """How much more alike two neighbours in a history are than two random items.

    Random items are drawn by how often they occur, as neighbours are, so that popularity is no
    part of the difference. The interval comes from resampling users, not pairs: pairs of one user
    are not independent. Only training items are looked at; an item without a vector, its row of
    [I + 1, W] all zeros, or beside itself, makes no pair. Pairs are drawn with replacement.
    """
    generator = np.random.default_rng(seed)
    length = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float64)
    unit = np.divide(vectors, length, out=np.zeros(vectors.shape), where=length > 0)
    items, has_content = interactions.items, length[:, 0] > 0

    # Places of training items, and those of them that another training item follows.
    places = interactions.training_places(np.arange(interactions.num_users))
    firsts = ranges(interactions.offsets[:-1], interactions.targets)
    places = places[has_content[items[places]]]
    left, right = items[firsts], items[firsts + 1]
    firsts = firsts[has_content[left] & has_content[right] & (left != right)]
    if not len(firsts):
        return NeighbourSimilarity(*[float("nan")] * 5)

    firsts = generator.choice(firsts, size=pairs)
    other = items[generator.choice(places, size=pairs)]
    distinct = other != items[firsts]
    firsts, other = firsts[distinct], other[distinct]
    anchor = unit[items[firsts]]
    near = np.einsum("nw,nw->n", anchor, unit[items[firsts + 1]])
    far = np.einsum("nw,nw->n", anchor, unit[other])

    users = np.searchsorted(interactions.offsets, firsts, side="right")
    present, user = np.unique(users, return_inverse=True)
    if len(present) < 2:
        return NeighbourSimilarity(*[float("nan")] * 5)
    sums, counts = np.bincount(user, near - far), np.bincount(user)
    low, high = bootstrap_interval(
        (sums, counts), lambda s, n, axis: s.sum(axis) / n.sum(axis), RESAMPLES, 100, generator
    )
    alike, unlike, difference = (float(x.mean()) for x in (near, far, near - far))
    return NeighbourSimilarity(alike, unlike, difference, low, high)


@dataclass(frozen=True)
class ContentStart:
    """Whether item embeddings had better start from content, by what is known before training.

    The figures that its limits rest on are in docs/content.md.
    """

    similarity: NeighbourSimilarity
    """Of what novelty compares: pictures and texts together."""
    covered: float
    """Share of the interactions that are with items that have content."""
    seen: float
    """Training interactions an item."""

    @property
    def length(self) -> float:
        """The mean length of a row that `model.item_length=auto` takes."""
        return usual_length(self.seen)

    @property
    def pays(self) -> bool:
        """Whether it is likely to: most items have content, and content goes with what users do."""
        return self.covered >= COVERED and self.similarity.low > 0

    def __str__(self) -> str:
        seen = f"{self.seen:.3g} training interactions an item"
        if not self.pays:
            why = "no sign that they know anything of what users do"
            if self.covered < COVERED:
                why = f"only {self.covered:.0%} of the interactions are with items that have any"
            return f"a start from content is not likely to pay: {why}"
        where = "in the end too" if self.seen < RARELY else "in the first rounds above all"
        return (
            f"model.item_start=content is likely to pay, {where}: {seen}; "
            f"model.item_length=auto takes {self.length:.2f}"
        )


def content_start(
    vectors: npt.NDArray[np.floating], interactions: Interactions, seed: int
) -> ContentStart:
    """`ContentStart` of items' vectors [I + 1, W], zeros where an item has none."""
    places = interactions.training_places(np.arange(interactions.num_users))
    items = interactions.items[places]
    has_content = np.asarray(vectors.any(axis=1))
    covered = float(has_content[items].mean()) if len(items) else 0.0
    similarity = neighbour_similarity(vectors, interactions, seed)
    return ContentStart(similarity, covered, len(items) / interactions.num_items)
