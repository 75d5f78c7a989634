"""Random numbers of many windows, side by side: those that numpy's generators give, bit for bit.

A numpy generator is a Python object; to make one and ask it costs more than to draw what a window
needs. Here the states of a batch are one array, compiled passes seed them and draw, and torch's
threads share the long draws.

Stream r is `numpy.random.Generator(SFC64(entropy[r]))`: M. O'Neill's seed sequence
("Developing a seed_seq Alternative", 2015), C. Doty-Humphrey's SFC64 (PractRand 0.95), and bounded
integers by D. Lemire, "Fast Random Integer Generation in an Interval", 2019, algorithm 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedmem.core.arrays import offsets_of
from fedmem.core.machine.device import CPU, to_device
from fedmem.core.training.gpu_noise import can_draw, draw_noise

BYTES_A_THREAD = 1 << 18
"""Fewer are not worth a thread of their own."""

FIRST_SALT, SALT_STEP = np.uint32(0x43B0D7E5), np.uint32(0x931E8875)
FIRST_SALT_OUT, SALT_STEP_OUT = np.uint32(0x8B51F9DD), np.uint32(0x58F38DED)
MIX_LEFT, MIX_RIGHT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
"""Of the seed sequence: for what goes into its pool, for what comes out, and for mixing."""

HALVES, LOWER = np.uint64(1 << 32), np.uint64((1 << 32) - 1)
"""How many halves of words there are, and the mask of the lower one."""

A, B, C, COUNTER, HALF_LEFT, HALF = range(6)
"""Of a state: SFC64's four words; whether the upper half of the last word drawn is still to be
given, and that half."""

Words = npt.NDArray[np.uint64]
jit = numba.njit(cache=True, nogil=True)


class Streams:
    """Independent random streams.

    Args:
        entropy: [R, K] what each stream is seeded with.
    """

    def __init__(self, entropy: npt.NDArray[np.uint32]) -> None:
        self._states = np.empty((len(entropy), 6), np.uint64)
        _seed(entropy, self._states)

    def integers(self, bounds: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
        """[R, count] integers of each stream, from 0 to below its bound of [R], at most 2³² − 1."""
        drawn = np.empty((len(bounds), count), np.int64)
        _draw_integers(self._states, bounds, drawn)
        return drawn

    def noise(
        self,
        lengths: npt.NDArray[np.int64],
        widths: Sequence[int],
        device: torch.device = CPU,
        last: bool = False,
        padded: bool = False,
    ) -> list[Tensor]:
        """Random bytes for the dropout of one forward pass: for each width C, a tensor [N, C].

        Each stream gives as many bytes as its row has elements at real positions. So a user's masks
        are the same whether the user trains alone, in a cohort, or on another node.

        Args:
            lengths: [R] real positions of each row, N together; one row's follow the other's.
            widths: channels of the tensors that are going to be dropped from, in their order.
            device: where they go.
            last: the streams are asked for nothing more. So a GPU may draw the bytes itself.
            padded: give each row as much room as the longest has, [R, T, C]; zeros at padding.
        """
        longest = int(lengths.max(initial=0))
        offsets = np.arange(len(lengths) + 1) * longest if padded else offsets_of(lengths)
        if (
            device.type == "cuda"
            and last
            and can_draw(widths)
            and not self._states[:, HALF_LEFT].any()
        ):
            states = self._states[:, :HALF_LEFT]
            noise = draw_noise(states, lengths, offsets, widths, device)
        else:
            noise = to_device(self._drawn_noise(lengths, offsets, widths, device), device)
        parts = torch.split(noise, [int(offsets[-1]) * width for width in widths])
        shape = (len(lengths), longest) if padded else (int(offsets[-1]),)
        return [part.view(*shape, width) for part, width in zip(parts, widths, strict=True)]

    def _drawn_noise(
        self,
        lengths: npt.NDArray[np.int64],
        offsets: npt.NDArray[np.int64],
        widths: Sequence[int],
        device: torch.device,
    ) -> Tensor:
        """All of it, drawn by the CPU for this device."""
        count = int(offsets[-1]) * sum(widths)
        noise = torch.empty(count, dtype=torch.uint8, pin_memory=device.type == "cuda")
        draw = (self._states, lengths, offsets, np.array(widths), noise.numpy())
        most = torch.get_num_threads()
        threads = max(1, min(most, count // BYTES_A_THREAD))
        if threads == 1:
            _draw_noise(*draw, 0, 1)
        else:
            tasks = [_pool(most).submit(_draw_noise, *draw, k, threads) for k in range(threads)]
            for task in tasks:
                task.result()
        return noise


def words_of(number: int) -> list[int]:
    """A number from 0 as entropy: words of 32 bits, the lowest first."""
    count = max(1, -(-number.bit_length() // 32))
    return [number >> 32 * k & 0xFFFFFFFF for k in range(count)]


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "noise")


@jit
def _seed(entropy: npt.NDArray[np.uint32], states: Words) -> None:
    pool, first = np.empty(4, np.uint32), np.empty(6, np.uint32)
    for row in range(len(entropy)):
        own, salt = entropy[row], FIRST_SALT
        for k in range(len(pool)):
            pool[k], salt = _hash(own[k] if k < len(own) else np.uint32(0), salt, SALT_STEP)
        for source in range(len(pool)):
            for target in range(len(pool)):
                if source != target:
                    hashed, salt = _hash(pool[source], salt, SALT_STEP)
                    pool[target] = _mix(pool[target], hashed)
        for value in own[len(pool) :]:
            for target in range(len(pool)):
                hashed, salt = _hash(value, salt, SALT_STEP)
                pool[target] = _mix(pool[target], hashed)
        salt = FIRST_SALT_OUT
        for k in range(len(first)):
            first[k], salt = _hash(pool[k % len(pool)], salt, SALT_STEP_OUT)
        for k, word in enumerate(first.view(np.uint64)):
            states[row, k] = word
        states[row, COUNTER] = 1
        states[row, HALF_LEFT:] = 0
        _next_words(states[row], np.empty(12, np.uint64))  # a fresh generator throws them away


@jit
def _hash(value: np.uint32, salt: np.uint32, step: np.uint32) -> tuple[np.uint32, np.uint32]:
    """The hash of a value, and the salt for the next one."""
    next_salt = np.uint32(salt * step)
    value = np.uint32((value ^ salt) * next_salt)
    return value ^ (value >> np.uint32(16)), next_salt


@jit
def _mix(x: np.uint32, y: np.uint32) -> np.uint32:
    value = np.uint32(MIX_LEFT * x - MIX_RIGHT * y)
    return value ^ (value >> np.uint32(16))


@jit
def _next_words(state: Words, words: Words) -> None:
    a, b, c, counter = state[A], state[B], state[C], state[COUNTER]
    for place in range(words.size):
        word = a + b + counter
        counter += np.uint64(1)
        a = b ^ (b >> np.uint64(11))
        b = c + (c << np.uint64(3))
        c = ((c << np.uint64(24)) | (c >> np.uint64(40))) + word
        words[place] = word
    state[A], state[B], state[C], state[COUNTER] = a, b, c, counter


@jit
def _draw_noise(states, lengths, offsets, widths, noise, first, every):  # type: ignore[no-untyped-def]
    """Every so many rows from the first: their bytes to all widths' [N, C], which follow, and zeros
    up to the next row's.
    """
    rows, channels = len(states), widths.sum()
    words = np.empty((lengths.max() if rows else 0) * channels // 8 + 2, np.uint64)
    octets = words.view(np.uint8)
    for row in range(first, rows, every):
        # Bytes are given by halves of words, the lower one first.
        left = np.int64(states[row, HALF_LEFT])
        halves = (lengths[row] * channels + 3) // 4 - left
        drawn = (halves + 1) // 2
        words[0] = states[row, HALF] << np.uint64(32)
        _next_words(states[row], words[1 : 1 + drawn])
        states[row, HALF_LEFT] = halves % 2
        states[row, HALF] = words[drawn] >> np.uint64(32)
        place, start = 8 - 4 * left, 0
        for width in widths:
            size = lengths[row] * width
            own = noise[start + offsets[row] * width : start + offsets[row + 1] * width]
            given = octets[place : place + size]
            for k in range(size):  # an assignment of slices takes seconds to compile
                own[k] = given[k]
            own[size:] = 0
            place += size
            start += offsets[rows] * width


@jit
def _draw_integers(states, bounds, drawn):  # type: ignore[no-untyped-def]
    rows, count = drawn.shape
    for row in range(rows):
        bound, state = np.uint64(bounds[row]), states[row]
        too_many = HALVES % bound  # this many halves would favour some of the integers
        for k in range(count):
            product = np.uint64(0)
            if bound > 1:  # of a single integer nothing is drawn
                product = _next_half(state) * bound
                while product & LOWER < too_many:
                    product = _next_half(state) * bound
            drawn[row, k] = product >> np.uint64(32)


@jit
def _next_half(state: Words) -> np.uint64:
    half, left = state[HALF], state[HALF_LEFT]
    state[HALF_LEFT] = np.uint64(1) - left
    if not left:
        word = np.empty(1, np.uint64)
        _next_words(state, word)
        state[HALF] = word[0] >> np.uint64(32)
        half = word[0] & LOWER
    return half  # type: ignore[no-any-return]
