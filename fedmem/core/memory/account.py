"""An account of one memory: what it holds now, and why each entry is there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import Floats, Ints
from fedmem.core.memory import kernel
from fedmem.core.memory.two_tier import TwoTierMemory
from fedmem.core.settings import MemorySettings


@dataclass(frozen=True)
class LongTermEntry:
    """An entry of the long-term tier.

    Attributes:
        item: its dense id.
        step: of the interactions, from 1, the one that wrote it last.
        merged: dense ids of the items that were merged into it, in time order.
        novelty: 1 − the largest cosine to the short-term tier when it came; None: no content.
        loss: the model's loss, by which an item without content surprised; None: it has content.
        utility: how useful it is now; the lowest goes first, where the tier is full.
        is_next: whether it is the one that would make room.
    """

    item: int
    step: int
    merged: list[int]
    novelty: float | None
    loss: float | None
    utility: float
    is_next: bool


@dataclass(frozen=True)
class Account:
    """What a memory holds.

    Attributes:
        short_term: dense ids, oldest first.
        long_term: in the order in which they entered.
        evicted: how many entries had to make room.
    """

    short_term: list[int]
    long_term: list[LongTermEntry]
    evicted: int


def account_of(
    settings: MemorySettings,
    threshold: float,
    catalogue: kernel.Catalogue,
    history: Ints,
    losses: npt.NDArray[np.floating],
) -> Account:
    """Fill a memory interaction by interaction, and note what becomes of each.

    Args:
        settings: its rules.
        threshold: novelty from which an item is written.
        catalogue: the items' vectors.
        history: [n] dense ids, oldest first.
        losses: [n] as of `TwoTierMemory.extend`.
    """
    memory = TwoTierMemory(settings, threshold, catalogue)
    novelties = _novelties(catalogue, history, settings.short_term_capacity)
    came: dict[int, int] = {}  # by item of an entry: the place in the history where it came
    merged: dict[int, list[int]] = {}
    for place, item in enumerate(history):
        before = memory.state
        memory.extend(history[place : place + 1], losses[place : place + 1])
        after = memory.state
        written = after.long_term[after.long_term[:, kernel.STEP] == place + 1, kernel.ITEM]
        if not len(written):
            continue
        if after.counters[kernel.MERGES] > before.counters[kernel.MERGES]:
            merged[int(written[0])].append(int(item))
        else:
            came[int(item)], merged[int(item)] = place, []
    state = memory.state
    now = len(history)
    utilities = [
        float(kernel.utility(frequency, now - step, float(settings.half_life)))
        for _, step, frequency in state.long_term
    ]
    full = len(state.long_term) == settings.long_term_capacity
    first_to_go = int(np.argmin(utilities)) if full else -1
    entries = []
    for row, (item, step, _) in enumerate(state.long_term.tolist()):
        novelty = float(novelties[came[item]])
        known = novelty == novelty
        entries.append(
            LongTermEntry(
                item=item,
                step=step,
                merged=merged[item],
                novelty=novelty if known else None,
                loss=None if known else float(losses[came[item]]),
                utility=utilities[row],
                is_next=row == first_to_go,
            )
        )
    return Account(state.short_term.tolist(), entries, int(state.counters[kernel.EVICTIONS]))


def _novelties(catalogue: kernel.Catalogue, history: Ints, capacity: int) -> Floats:
    """Novelty [n] of each item of a history when it came; NaN for one without content."""
    places = np.arange(len(history))
    earliest = np.maximum(places - capacity, 0)
    familiarity = kernel.familiarities(history, places, earliest, catalogue)
    return np.where(catalogue.has_content[history], 1 - familiarity, np.nan)
