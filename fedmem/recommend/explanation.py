"""Why an item is recommended: which of the latest items, and which memory entries, spoke for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fedmem.core.arrays import Ints
from fedmem.recommend.recommendation import Ranker

LATEST = 10
"""Items from the end of a history that are looked at one by one."""


@dataclass(frozen=True)
class Explanation:
    """What spoke for one recommended item; negative numbers spoke against it.

    Attributes:
        latest: [n] dense ids of the last items of the history, the latest first.
        by_latest: [n] by how much the sequence's part would be lower without each of them.
        memory: [m] dense ids of the memory's entries.
        by_memory: [m] what each of them adds to the memory's part.
        memory_rest: what no single entry adds to it; with `by_memory` it makes up the part.
    """

    latest: list[int]
    by_latest: list[float]
    memory: list[int]
    by_memory: list[float]
    memory_rest: float


@torch.no_grad()
def explain(
    ranker: Ranker, history: Ints, memory: Ints | None, items: Sequence[int]
) -> list[Explanation]:
    """What spoke for each of the items, by dense id, that were recommended for a history.

    The effect of an earlier item is measured by leaving it out, one forward pass for all; that of a
    memory entry is its term of the experts' sums. `memory` are the items [M] that the memory gave.
    """
    embedded = ranker.model.sasrec.item_emb.weight[list(items)]  # [K, D]
    places = _left_out(history)
    shorter = [np.delete(history, place) for place in places]
    hidden = ranker.hidden([history, *shorter])  # [1 + n, D]
    effect = (hidden[0] - hidden[1:]) @ embedded.T  # [n, K]
    entries, shares = [], torch.zeros(len(items), 1)
    if memory is not None and ranker.tables is not None and memory.any():
        held = memory[memory > 0]
        entries = held.tolist()
        shares = ranker.model.memory_shares(
            ranker.tables, torch.tensor(items), torch.from_numpy(held).long()
        )
    return [
        Explanation(history[places].tolist(), effect[:, k].tolist(), entries, own[:-1], own[-1])
        for k, own in enumerate(shares.tolist())
    ]


def _left_out(history: Ints) -> list[int]:
    """Places of the latest items, the last first; none where nothing would be left."""
    if len(history) < 2:
        return []
    return list(range(len(history) - 1, max(-1, len(history) - 1 - LATEST), -1))
