"""Noise: the bytes of numpy's generators, at the rows' real positions, whoever draws them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch

from fedmem.model import noise
from fedmem.model.noise import draw_noise


def generators(seeds: Iterable[int]) -> list[np.random.Generator]:
    return [np.random.Generator(np.random.SFC64(seed)) for seed in seeds]


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
    """This is part of what a seed means: of what is drawn after the noise, too."""
    drawing, asked = generators(range(len(lengths))), generators(range(len(lengths)))
    for _ in range(3):  # a generator may have half of a word left from the last time
        drawn = draw_noise(drawing, lengths, widths)
        assert [list(n.shape) for n in drawn] == [[len(lengths), max(lengths), w] for w in widths]
        for row, (length, generator) in enumerate(zip(lengths, asked, strict=True)):
            stream = np.frombuffer(generator.bytes(length * sum(widths)), np.uint8)
            pieces = np.split(stream, np.cumsum(widths) * length)
            for of_width, piece in zip(drawn, pieces[:-1], strict=True):
                assert of_width[row, :length].flatten().tolist() == piece.tolist()
                assert not of_width[row, length:].any()
        after = [[int(g.integers(1000)) for g in every] for every in (drawing, asked)]
        assert after[0] == after[1]


@pytest.mark.usefixtures("threads")
def test_threads_draw_the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths, widths = [9, 2, 7, 7, 1], [8, 3]
    alone = draw_noise(generators(range(5)), lengths, widths)
    monkeypatch.setattr(noise, "BYTES_A_THREAD", 1)
    together = draw_noise(generators(range(5)), lengths, widths)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_no_rows_have_no_noise() -> None:
    assert [list(n.shape) for n in draw_noise([], [], [3, 4])] == [[0, 0, 3], [0, 0, 4]]
