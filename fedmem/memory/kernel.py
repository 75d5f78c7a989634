"""The loops of the memory, compiled: one user's interactions in time order.

Entries are rows of a similarity matrix over the user's own items, so no step touches a vector.
Everything that Numba compiles is here; the rules are described in `fedmem.memory.two_tier`.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

jit: Any = numba.njit(cache=True)

INGESTED, PROMOTIONS, MERGES, EVICTIONS, SURPRISES = range(5)
"""Places in the array of counters."""


@jit
def utility(frequency, age, half_life):  # type: ignore[no-untyped-def]
    """How useful a long-term entry is: frequent use counts, and so does recent use."""
    return math.log(1.0 + frequency) + math.exp(-age * math.log(2.0) / half_life)


@jit
def nearest(similarities, has_content, rows):  # type: ignore[no-untyped-def]
    """(index into `rows`, similarity) of the most similar of these rows; (-1, 0.0) without one."""
    best, most = -1, 0.0
    for k in range(len(rows)):
        if has_content[rows[k]] and (best < 0 or similarities[rows[k]] > most):
            best, most = k, similarities[rows[k]]
    return best, most


@jit
def novelties(similarity, has_content, capacity):  # type: ignore[no-untyped-def]
    """Novelty [n] of each item against the `capacity` before it; NaN without content."""
    result = np.full(len(has_content), np.nan, dtype=np.float32)
    for i in range(len(has_content)):
        if has_content[i]:
            before = np.arange(max(0, i - capacity), i)
            result[i] = 1.0 - nearest(similarity[i], has_content, before)[1]
    return result


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
def read(found, short_term, long_term, utilities, from_short_term):  # type: ignore[no-untyped-def]
    """Fill `found` [top_k] with item ids: latest of ST, most useful of LT, then more of ST."""
    newest_first = short_term[::-1]
    share = min(from_short_term, len(newest_first))
    filled = 0
    for item in newest_first[:share]:
        filled = fill(found, filled, item)
    for k in np.argsort(-utilities, kind="mergesort"):
        filled = fill(found, filled, long_term[k])
    for item in newest_first[share:]:
        filled = fill(found, filled, item)


@jit
def ingest(  # type: ignore[no-untyped-def]
    items,
    similarity,
    has_content,
    surprising,
    st_size,
    lt_before,
    counters,
    st_capacity,
    lt_capacity,
    threshold,
    merge_similarity,
    half_life,
    read_at,
    found,
    from_short_term,
):
    """Ingest the new items, reading the memory on the way.

    Args:
        items: [k] ids: of the ST entries there are, of the LT entries, then of the n new items.
        similarity: [k, k] cosines between them.
        has_content: [k].
        surprising: [n] whether a new item is written although it has no content.
        st_size: ST entries there are.
        lt_before: [lt_size, 2] step and frequency of the LT entries there are.
        counters: [5] changed in place.
        st_capacity: entries that ST holds.
        lt_capacity: entries that LT holds.
        threshold: novelty from which an item is written.
        merge_similarity: cosine from which it is merged into the nearest LT entry.
        half_life: of the recency in an entry's utility, in interactions.
        read_at: [reads] ascending counts of new items after which the memory is read.
        found: [reads, top_k] zeros, filled with what was read.
        from_short_term: entries of a read that come from ST first.

    Returns:
        ST ids [st_size], oldest first, and LT entries [lt_size, 3] of id, step and frequency.
    """
    lt_size = len(lt_before)
    first = st_size + lt_size
    n = len(items) - first
    queue = np.empty(st_size + n, dtype=np.int32)  # ST is the window queue[head:tail]
    queue[:st_size] = np.arange(st_size)
    head, tail = 0, st_size
    rows = np.empty(lt_capacity, dtype=np.int32)  # LT, the first lt_size places of three arrays
    steps = np.empty(lt_capacity, dtype=np.int32)
    frequencies = np.empty(lt_capacity, dtype=np.int32)
    rows[:lt_size] = np.arange(st_size, first)
    steps[:lt_size] = lt_before[:, 0]
    frequencies[:lt_size] = lt_before[:, 1]

    next_read = 0
    for i in range(n + 1):
        while next_read < len(read_at) and read_at[next_read] == i:
            utilities = np.empty(lt_size)
            for k in range(lt_size):
                utilities[k] = utility(frequencies[k], counters[INGESTED] - steps[k], half_life)
            read(
                found[next_read],
                items[queue[head:tail]],
                items[rows[:lt_size]],
                utilities,
                from_short_term,
            )
            next_read += 1
        if i == n:
            break

        new = first + i
        if has_content[new]:
            closest = nearest(similarity[new], has_content, queue[head:tail])[1]
            write = 1.0 - closest >= threshold
        else:
            write = surprising[i]
        counters[INGESTED] += 1
        now = counters[INGESTED]

        if write:
            if not has_content[new]:
                counters[SURPRISES] += 1
            merge = -1
            for k in range(lt_size):
                if items[rows[k]] == items[new]:
                    merge = k
            if merge < 0 and has_content[new]:
                candidate, closest = nearest(similarity[new], has_content, rows[:lt_size])
                if candidate >= 0 and closest >= merge_similarity:
                    merge = candidate
            if merge >= 0:
                frequencies[merge] += 1
                steps[merge] = now
                counters[MERGES] += 1
            else:
                if lt_size == lt_capacity:
                    least, lowest = 0, np.inf
                    for k in range(lt_size):
                        value = utility(frequencies[k], now - steps[k], half_life)
                        if value < lowest:
                            least, lowest = k, value
                    for k in range(least, lt_size - 1):
                        rows[k] = rows[k + 1]
                        steps[k] = steps[k + 1]
                        frequencies[k] = frequencies[k + 1]
                    lt_size -= 1
                    counters[EVICTIONS] += 1
                rows[lt_size] = new
                steps[lt_size] = now
                frequencies[lt_size] = 1
                lt_size += 1
                counters[PROMOTIONS] += 1

        queue[tail] = new
        tail += 1
        if tail - head > st_capacity:
            head += 1

    long_term = np.empty((lt_size, 3), dtype=np.int32)
    long_term[:, 0] = items[rows[:lt_size]]
    long_term[:, 1] = steps[:lt_size]
    long_term[:, 2] = frequencies[:lt_size]
    return items[queue[head:tail]], long_term
