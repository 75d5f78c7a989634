"""Random bytes for the masks of dropout: a row's depend on the row alone, never on its batch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

BYTES_A_THREAD = 1 << 18
"""Fewer are not worth a thread of their own."""

States = npt.NDArray[np.uint64]
"""[B, 6] of SFC64 generators: a, b, c, the counter, whether the upper half of the last word is
still to be given, and that half."""


def draw_noise(
    generators: Sequence[np.random.Generator],
    lengths: Sequence[int],
    widths: Sequence[int],
    pinned: bool = False,
) -> list[Tensor]:
    """Random bytes for the masks of one forward pass: for each width C, a tensor [B, T, C].

    Each row owns a generator and takes as many bytes as it has elements at its real positions. So
    a user's masks are the same whether the user trains alone, in a cohort, or on another node.

    The bytes are those of `generator.bytes`. Torch's threads draw rows side by side, straight to
    their places, without Python's lock.

    Args:
        generators: one for each row of the batch, over `numpy.random.SFC64`.
        lengths: real positions of each row; T is the largest. Padding gets zeros.
        widths: channels of the tensors that are going to be dropped from, in their order.
        pinned: in memory that a GPU copies from while other work goes on.
    """
    rows, longest = len(lengths), max(lengths, default=0)
    count = rows * longest * sum(widths)
    noise = torch.empty(count, dtype=torch.uint8, pin_memory=pinned)
    states = _states(generators)
    drawn = (states, np.asarray(lengths, np.int64), np.asarray(widths, np.int64), noise.numpy())
    threads = max(1, min(torch.get_num_threads(), count // BYTES_A_THREAD))
    if threads == 1:
        _draw(*drawn, 0, 1)
    else:
        tasks = [_pool(threads).submit(_draw, *drawn, first, threads) for first in range(threads)]
        for task in tasks:
            task.result()
    _set_states(generators, states)
    parts = torch.split(noise, [rows * longest * width for width in widths])
    return [part.view(rows, longest, w) for part, w in zip(parts, widths, strict=True)]


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "noise")


def _states(generators: Sequence[np.random.Generator]) -> States:
    states = np.empty((len(generators), 6), np.uint64)
    for row, generator in zip(states, generators, strict=True):
        state = generator.bit_generator.state
        row[:4] = state["state"]["state"]
        row[4:] = state["has_uint32"], state["uinteger"]
    return states


def _set_states(generators: Sequence[np.random.Generator], states: States) -> None:
    for row, generator in zip(states, generators, strict=True):
        half = {"has_uint32": int(row[4]), "uinteger": int(row[5])}
        generator.bit_generator.state = {
            "bit_generator": "SFC64",
            "state": {"state": row[:4]},
            **half,
        }


@numba.njit(cache=True, nogil=True)
def _draw(
    states: States,
    lengths: npt.NDArray[np.int64],
    widths: npt.NDArray[np.int64],
    noise: npt.NDArray[np.uint8],
    first: int,
    every: int,
) -> None:
    """Every so many rows from the first: their bytes to all widths' [B, T, C], which follow."""
    rows, channels = len(lengths), widths.sum()
    longest = noise.size // max(rows * channels, 1)
    words = np.empty(longest * channels // 8 + 2, np.uint64)
    taken = words.view(np.uint8)
    for row in range(first, rows, every):
        # Bytes are given by halves of words, the lower one first.
        left = np.int64(states[row, 4])
        halves = (lengths[row] * channels + 3) // 4 - left
        drawn = (halves + 1) // 2
        words[0] = states[row, 5] << np.uint64(32)
        _next_words(states[row], words[1 : 1 + drawn])
        states[row, 4] = halves % 2
        states[row, 5] = words[drawn] >> np.uint64(32)
        place, start = 8 - 4 * left, 0
        for width in widths:
            own = noise[start + row * longest * width : start + (row + 1) * longest * width]
            size = lengths[row] * width
            own[:size] = taken[place : place + size]
            own[size:] = 0
            place += size
            start += rows * longest * width


@numba.njit(cache=True, nogil=True)
def _next_words(state: npt.NDArray[np.uint64], words: npt.NDArray[np.uint64]) -> None:
    """Chris Doty-Humphrey's SFC64 (PractRand 0.95), as numpy has it."""
    a, b, c, counter = state[0], state[1], state[2], state[3]
    for place in range(words.size):
        word = a + b + counter
        counter += np.uint64(1)
        a = b ^ (b >> np.uint64(11))
        b = c + (c << np.uint64(3))
        c = ((c << np.uint64(24)) | (c >> np.uint64(40))) + word
        words[place] = word
    state[0], state[1], state[2], state[3] = a, b, c, counter
