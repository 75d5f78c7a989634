"""Streams: the numbers of numpy's generators, in the order in which they are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fedmem.core.training import random_streams
from fedmem.core.training.gpu_noise import can_draw
from fedmem.core.training.random_streams import Streams, words_of


def entropy(rows: int, words: int = 6) -> np.ndarray:
    drawn = np.random.default_rng(rows).integers(0, 1 << 32, (rows, words), dtype=np.uint32)
    drawn[:, 1:] //= np.uint32(1 << 20)  # most of what names a window is small
    return drawn


def generators(seeds: np.ndarray) -> list[np.random.Generator]:
    """The definition of streams."""
    return [np.random.Generator(np.random.SFC64(seed.tolist())) for seed in seeds]


@pytest.fixture
def threads() -> Iterator[None]:
    """Three threads, where the machine would take fewer."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("lengths", "widths"),
    [([4, 1, 3], [8, 16, 4]), ([8], [2, 4, 1]), ([3, 1, 2], [5, 1, 7]), ([100, 61], [128, 256])],
)
def test_noise_is_the_bytes_that_the_generators_would_give(
    lengths: list[int], widths: list[int]
) -> None:
    seeds = entropy(len(lengths))
    drawing, asked = Streams(seeds), generators(seeds)
    for _ in range(3):  # half of a word may be left from the last time
        drawn = drawing.noise(np.array(lengths), widths)
        assert [list(n.shape) for n in drawn] == [[sum(lengths), width] for width in widths]
        parts = zip(*(noise.split(lengths) for noise in drawn), strict=True)
        for length, generator, own in zip(lengths, asked, parts, strict=True):
            given = np.frombuffer(generator.bytes(length * sum(widths)), np.uint8)
            pieces = np.split(given, np.cumsum(widths) * length)
            for of_width, piece in zip(own, pieces[:-1], strict=True):
                assert of_width.flatten().tolist() == piece.tolist()


def test_padded_rows_have_the_same_noise_and_zeros_behind_it() -> None:
    lengths, widths = [4, 1, 3], [8, 5]
    packed = Streams(entropy(3)).noise(np.array(lengths), widths)
    padded = Streams(entropy(3)).noise(np.array(lengths), widths, padded=True)
    real = torch.arange(4) < torch.tensor(lengths)[:, None]
    for end_to_end, rows, width in zip(packed, padded, widths, strict=True):
        assert list(rows.shape) == [3, 4, width]
        assert torch.equal(rows[real], end_to_end)
        assert not rows[~real].any()


@pytest.mark.parametrize("words", [1, 3, 4, 5, 6, 9])
def test_integers_are_those_that_the_generators_would_give(words: int) -> None:
    bounds = np.array([1, 2, 7, 100, 3000, 1 << 20, 3 << 30, (1 << 32) - 1])
    seeds = entropy(len(bounds), words)
    drawing, asked = Streams(seeds), generators(seeds)
    for count in (1, 6, 500):
        expected = [g.integers(0, n, size=count) for g, n in zip(asked, bounds, strict=True)]
        assert np.array_equal(drawing.integers(bounds, count), expected)


def test_what_is_drawn_may_change_from_call_to_call() -> None:
    seeds = entropy(2)
    drawing, asked = Streams(seeds), generators(seeds)
    for count in (1, 2, 3):
        drawn = drawing.integers(np.array([10, 1000]), count)
        (noise,) = drawing.noise(np.array([count, 1]), [5])
        rows = zip([10, 1000], drawn, noise.split([count, 1]), asked, strict=True)
        for bound, integers, own, generator in rows:
            assert integers.tolist() == generator.integers(0, bound, size=count).tolist()
            assert own.numpy().tobytes() == generator.bytes(own.numel())


@pytest.mark.parametrize("number", [0, 1, (1 << 32) - 1, 1 << 32, 12345678901234567890123])
def test_a_long_number_is_the_entropy_that_numpy_takes_it_for(number: int) -> None:
    drawn = Streams(np.array([[*words_of(number), 7]], np.uint32)).integers(np.array([1000]), 9)
    generator = np.random.Generator(np.random.SFC64([number, 7]))
    assert drawn[0].tolist() == generator.integers(0, 1000, size=9).tolist()


@pytest.mark.usefixtures("threads")
def test_threads_draw_the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths, widths = np.array([9, 2, 7, 7, 1]), [8, 3]
    alone = Streams(entropy(5)).noise(lengths, widths)
    monkeypatch.setattr(random_streams, "BYTES_A_THREAD", 1)
    together = Streams(entropy(5)).noise(lengths, widths)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_no_rows_have_no_noise() -> None:
    noise = Streams(entropy(0)).noise(np.array([], dtype=np.int64), [3, 4])
    assert [list(n.shape) for n in noise] == [[0, 3], [0, 4]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize(
    ("lengths", "widths"), [([4, 1, 3], [8, 16]), ([100, 61, 9], [128, 256]), ([3, 1], [5, 8])]
)
def test_a_gpu_draws_the_same_noise_itself(lengths: list[int], widths: list[int]) -> None:
    for last, padded in itertools.product((True, False), repeat=2):
        seeds = entropy(len(lengths))
        expected = Streams(seeds).noise(np.array(lengths), widths, padded=padded)
        there = (torch.device("cuda"), last, padded)
        drawn = Streams(seeds).noise(np.array(lengths), widths, *there)
        assert all(there.device.type == "cuda" for there in drawn)
        assert all(torch.equal(a, b.cpu()) for a, b in zip(expected, drawn, strict=True))


@pytest.mark.parametrize(("widths", "aligned"), [([8, 128], True), ([8, 12], False), ([], True)])
def test_a_gpu_draws_rows_that_begin_where_words_do(widths: list[int], aligned: bool) -> None:
    assert can_draw(widths) == aligned
