"""The loops of the memory, compiled: many users' interactions in time order.

A place is an index into `History.items`, where the users' histories stand one after the other.
All of the memory that Numba compiles is here; `fedmem.core.memory.two_tier` describes the rules.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

jit: Any = numba.njit(cache=True)
# Sums may be reordered, or they could not be vectorised.
jit_sums: Any = numba.njit(cache=True, fastmath={"reassoc", "contract", "nsz"})

BINS = 400
"""Bins of the histogram of novelty over [0, 2], the range of 1 − cosine."""
INGESTED, PROMOTIONS, MERGES, EVICTIONS, SURPRISES = range(5)
"""Places in a row of counters."""
ITEM, STEP, FREQUENCY = range(3)
"""Places in a long-term entry."""


class Rules(NamedTuple):
    """What is constant over users; `from_short_term` entries of a read come from ST first, and
    `splits_bin` says that a threshold inside a bin lets a part of it in, see `is_novel`.
    """

    short_term_capacity: int
    long_term_capacity: int
    threshold: float
    merge_similarity: float
    half_life: float
    from_short_term: int
    splits_bin: bool


class Catalogue(NamedTuple):
    """Vectors [I + 1, W] of all items, row 0 zero, and whether an item has one [I + 1]."""

    vectors: npt.NDArray[np.float32]
    has_content: npt.NDArray[np.bool_]


class History(NamedTuple):
    """Item ids [N]; their familiarity [N], see `familiarities`; whether an item without content is
    written when it comes [N].
    """

    items: npt.NDArray[np.int32]
    familiarity: npt.NDArray[np.float32]
    surprising: npt.NDArray[np.bool_]


class Spans(NamedTuple):
    """Places by user: where the known history begins [U], and what is ingested, start to end [U].

    What stands between `first` and `start` is in ST already, as far as that holds it.
    """

    first: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]


class Reads(NamedTuple):
    """Reads on the way: just before which place [n], ascending for each user; where each user's end
    [U]; the row of `found` [n] that each fills; and `found` [n, top_k], zeros.
    """

    place: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    found: npt.NDArray[np.int32]


@jit_sums
def cosines(vectors, a, b, c, d, x, y):  # type: ignore[no-untyped-def]
    """Cosines of items a, b, c and d to item x, then to item y.

    The one place that sums them: a pair of items gives the same bits whoever asks, and when. Eight
    sums at once keep a core's multipliers busy with half the loads.
    """
    ax = bx = cx = dx = ay = by = cy = dy = np.float32(0.0)
    for k in range(vectors.shape[1]):
        to_x, to_y = vectors[x, k], vectors[y, k]
        of_a, of_b, of_c, of_d = vectors[a, k], vectors[b, k], vectors[c, k], vectors[d, k]
        ax += of_a * to_x
        bx += of_b * to_x
        cx += of_c * to_x
        dx += of_d * to_x
        ay += of_a * to_y
        by += of_b * to_y
        cy += of_c * to_y
        dy += of_d * to_y
    return ax, bx, cx, dx, ay, by, cy, dy


@jit
def familiarities(items, places, earliest, catalogue):  # type: ignore[no-untyped-def]
    """Largest cosine [n] of the item at each place to those from `earliest` [n] up to it.

    Only items with content count; 0 where there is none. Up to four places that follow each other
    are taken at once, since they look back on nearly the same items.
    """
    result = np.zeros(len(places), dtype=np.float32)
    four = np.empty(4, dtype=np.int64)
    most = np.empty(4, dtype=np.float32)
    begin = 0
    while begin < len(places):
        end = begin + 1
        while (
            end < min(begin + 4, len(places))
            and places[end] == places[end - 1] + 1
            and earliest[end] <= places[begin]
        ):
            end += 1
        for lane in range(4):
            four[lane] = items[places[begin + lane]] if begin + lane < end else 0
        most[:] = -np.inf
        last = places[end - 1]
        for other in range(earliest[begin], last, 2):
            x, y = items[other], items[other + 1] if other + 1 < last else 0
            eight = cosines(catalogue.vectors, four[0], four[1], four[2], four[3], x, y)
            for k in range(begin, end):
                lane = k - begin
                if earliest[k] <= other < places[k] and catalogue.has_content[x]:
                    most[lane] = max(most[lane], eight[lane])
                if earliest[k] <= other + 1 < places[k] and catalogue.has_content[y]:
                    most[lane] = max(most[lane], eight[4 + lane])
        for k in range(begin, end):
            if most[k - begin] > -np.inf and catalogue.has_content[four[k - begin]]:
                result[k] = most[k - begin]
        begin = end
    return result


@jit
def copy(entries, target):  # type: ignore[no-untyped-def]
    """Copy entries [n, 3] to the first places of `target`, the first one first.

    Numba takes seconds to compile an assignment of slices, with its words for every misfit.
    """
    for k in range(len(entries)):
        for part in range(3):
            target[k, part] = entries[k, part]


@jit
def utility(frequency, age, half_life):  # type: ignore[no-untyped-def]
    """How useful a long-term entry is: frequent use counts, and so does recent use."""
    return math.log(1.0 + frequency) + math.exp(-age * math.log(2.0) / half_life)


@jit
def fill(found, filled, item):  # type: ignore[no-untyped-def]
    """Add an item to `found` unless it is full or holds it already; the new count."""
    if filled == len(found):
        return filled
    for k in range(filled):
        if found[k] == item:
            return filled
    found[filled] = item
    return filled + 1


@jit
def read(found, short_term, long_term, now, rules):  # type: ignore[no-untyped-def]
    """Fill `found` [top_k] with item ids: latest of ST, most useful of LT, then more of ST."""
    newest_first = short_term[::-1]
    share = min(rules.from_short_term, len(newest_first))
    filled = 0
    for item in newest_first[:share]:
        filled = fill(found, filled, item)
    useful, order = np.empty(len(long_term)), np.empty(len(long_term), np.int64)
    for k in range(len(long_term)):
        age = now - long_term[k, STEP]
        useful[k] = utility(long_term[k, FREQUENCY], age, rules.half_life)
        rank = k
        while rank > 0 and useful[order[rank - 1]] < useful[k]:
            order[rank] = order[rank - 1]
            rank -= 1
        order[rank] = k
    for most in order:
        filled = fill(found, filled, long_term[most, ITEM])
    for item in newest_first[share:]:
        filled = fill(found, filled, item)


@jit
def entry_to_merge_into(item, entries, size, catalogue, merge_similarity):  # type: ignore[no-untyped-def]
    """The item's own long-term entry, or the nearest if it is near enough; −1 without one.

    `entries` [capacity + 3, 3] are padded so that four of them can be compared at a time.
    """
    for k in range(size):
        if entries[k, ITEM] == item:
            return k
    if not catalogue.has_content[item]:
        return -1
    best, most = -1, np.float32(0.0)
    for k in range(0, size, 4):
        four = entries[k : k + 4, ITEM]
        found = cosines(catalogue.vectors, four[0], four[1], four[2], four[3], item, 0)
        for lane in range(min(4, size - k)):
            if catalogue.has_content[four[lane]] and (best < 0 or found[lane] > most):
                best, most = k + lane, found[lane]
    return best if best >= 0 and most >= merge_similarity else -1


@jit
def write(item, entries, size, counters, catalogue, rules):  # type: ignore[no-untyped-def]
    """Write an item into the long-term entries, of which there are `size`; the new size."""
    now = counters[INGESTED]
    merge = entry_to_merge_into(item, entries, size, catalogue, rules.merge_similarity)
    if merge >= 0:
        entries[merge, FREQUENCY] += 1
        entries[merge, STEP] = now
        counters[MERGES] += 1
        return size
    if size == rules.long_term_capacity:
        least, lowest = 0, np.inf
        for k in range(size):
            value = utility(entries[k, FREQUENCY], now - entries[k, STEP], rules.half_life)
            if value < lowest:
                least, lowest = k, value
        copy(entries[least + 1 : size], entries[least:])
        size -= 1
        counters[EVICTIONS] += 1
    entries[size, ITEM] = item
    entries[size, STEP] = now
    entries[size, FREQUENCY] = 1
    counters[PROMOTIONS] += 1
    return size + 1


@jit
def is_novel(novelty, item, step, rules):  # type: ignore[no-untyped-def]
    """Whether an item is novel enough to be written.

    Where more interactions are equally novel than may be written, the threshold stands inside their
    bin of the histogram and lets the share above it in. Which ones: by a hash of the item and of
    its step in the history (Knuth's multiplicative one), so that whoever asks finds the same.
    """
    place = rules.threshold * BINS / 2
    edge = math.floor(place + 1e-6)
    kept_out = place - edge
    if not rules.splits_bin or kept_out < 1e-6:
        return novelty >= rules.threshold
    within = novelty * BINS / 2 - edge
    if within < 0 or within >= 1:
        return within >= 1
    return ((item * 2654435761 + step * 40503) * 2654435761 % 4294967296) / 4294967296 >= kept_out


@jit
def ingest(history, spans, counters, sizes, long_term, reads, catalogue, rules):  # type: ignore[no-untyped-def]
    """Ingest the users' spans, reading their memories on the way.

    Args:
        history: `History`.
        spans: `Spans`.
        counters: [U, 5] changed in place.
        sizes: [U] long-term entries of each user, changed in place.
        long_term: [Σ sizes, 3] item, step and frequency of the entries, user by user.
        reads: `Reads`, whose `found` is filled.
        catalogue: `Catalogue`.
        rules: `Rules`.

    Returns:
        The long-term entries that there are now.
    """
    room = 0
    for user in range(len(sizes)):
        new = spans.end[user] - spans.start[user]
        room += min(rules.long_term_capacity, sizes[user] + new)
    after = np.empty((room, 3), dtype=np.int32)
    entries = np.zeros((rules.long_term_capacity + 3, 3), dtype=np.int32)
    taken = kept = next_read = 0
    for user in range(len(sizes)):
        size = sizes[user]
        copy(long_term[taken : taken + size], entries)
        taken += size
        counts = counters[user]
        for place in range(spans.start[user], spans.end[user] + 1):
            while next_read < reads.ends[user] and reads.place[next_read] == place:
                oldest = max(spans.first[user], place - rules.short_term_capacity)
                found, latest = reads.found[reads.row[next_read]], history.items[oldest:place]
                read(found, latest, entries[:size], counts[INGESTED], rules)
                next_read += 1
            if place == spans.end[user]:
                break
            item = history.items[place]
            counts[INGESTED] += 1
            if catalogue.has_content[item]:
                novelty = 1.0 - history.familiarity[place]
                if is_novel(novelty, np.int64(item), np.int64(counts[INGESTED]), rules):
                    size = write(item, entries, size, counts, catalogue, rules)
            elif history.surprising[place]:
                counts[SURPRISES] += 1
                size = write(item, entries, size, counts, catalogue, rules)
        copy(entries[:size], after[kept:])
        kept += size
        sizes[user] = size
    return after[:kept].copy()
