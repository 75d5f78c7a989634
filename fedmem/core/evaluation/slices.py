"""Parts of the users that are worth looking at alone, by their held-out item and their history."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import UserIndices, offsets_of
from fedmem.core.data import Interactions

POPULARITY = ("head", "middle", "tail")
LENGTHS = ("short", "medium", "long")


def popularity_thirds(interactions: Interactions, users: UserIndices) -> npt.NDArray[np.int64]:
    """[I + 1] the third that an item belongs to: 0 head, 1 middle, 2 tail.

    Items in order of how often these users trained on them are parted where a third and two thirds
    of the interactions are reached: the head is a few items, the tail most of them.
    """
    trained_on = interactions.items[interactions.training_places(users)]
    counts = np.bincount(trained_on, minlength=interactions.num_items + 1)
    order = np.argsort(-counts, kind="stable")
    before = offsets_of(counts[order])[:-1]
    thirds = np.empty(len(counts), dtype=np.int64)
    thirds[order] = np.minimum(3 * before // max(int(counts.sum()), 1), 2)
    return thirds


def slices_of(
    interactions: Interactions, users: UserIndices, has_picture: npt.NDArray[np.bool_] | None = None
) -> dict[str, npt.NDArray[np.bool_]]:
    """Which of these users [U] belong to each slice, by its name.

    `has_picture` [I + 1] are the items that have one; None: not known.
    """
    test_items = interactions.held_out("test", users)
    third = popularity_thirds(interactions, users)[test_items]
    found = {f"item: {name}": third == place for place, name in enumerate(POPULARITY)}
    lengths = interactions.lengths[users]
    edges = np.quantile(lengths, [1 / 3, 2 / 3])
    part = np.searchsorted(edges, lengths, side="left")
    found |= {f"history: {name}": part == place for place, name in enumerate(LENGTHS)}
    if has_picture is not None:
        found["item with a picture"] = has_picture[test_items]
        found["item without a picture"] = ~has_picture[test_items]
    return {name: rows for name, rows in found.items() if rows.any()}
