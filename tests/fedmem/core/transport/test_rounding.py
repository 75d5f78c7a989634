"""Rounding is unbiased, exact where it can be, and the same wherever it is done."""

from __future__ import annotations

import numpy as np
import pytest

from fedmem.core.training.batches import RoundKey
from fedmem.core.transport.rounding import (
    SCALE_UNIT,
    dequantise,
    largest_integer,
    quantise,
    rounded_up,
    rounding_generator,
    scales_by_range,
    signs_of_largest,
)

KEY = RoundKey(3, "pretrain_sasrec", 7)
VALUES = np.random.default_rng(0).normal(size=(6, 50)).astype(np.float32)
VALUES[2] = 0
VALUES[3] *= 1e-20


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8, 16])
def test_the_mean_of_rounding_at_random_is_the_value(bits: int) -> None:
    scale = scales_by_range(VALUES, largest_integer(bits))
    draws = 4000
    total = np.zeros(VALUES.shape)
    for round_number in range(draws):
        generator = rounding_generator(RoundKey(0, "s", round_number), "node 0", "w")
        total += dequantise(quantise(VALUES, scale, bits, generator), scale)
    step = scale * (2 if bits == 1 else 1)
    # A draw between two neighbours deviates by at most half their distance.
    assert (np.abs(total / draws - VALUES) <= 5 * 0.5 * step[:, None] / np.sqrt(draws)).all()


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_no_coordinate_moves_further_than_to_its_neighbour(bits: int) -> None:
    scale = scales_by_range(VALUES, largest_integer(bits))
    step = scale[:, None] * (2 if bits == 1 else 1)
    rounded = dequantise(quantise(VALUES, scale, bits, rounding_generator(KEY, "n", "w")), scale)
    assert (np.abs(rounded - VALUES) <= step * 1.0001).all()
    nearest = dequantise(quantise(VALUES, scale, bits), scale)
    assert (np.abs(nearest - VALUES) <= step * 0.5001).all()


def test_what_is_on_the_grid_stays() -> None:
    integers = np.array([[-7, -3, 0, 1, 7], [0, 0, 0, 0, 0]], np.int32)
    values = dequantise(integers, np.array([0.25, 0.0], np.float32))
    for generator in (None, rounding_generator(KEY, "n", "w")):
        assert np.array_equal(quantise(values, np.array([0.25, 0.0]), 4, generator), integers)


def test_a_common_scale_serves_all_rows_and_sums_of_integers_are_sums_of_values() -> None:
    first = quantise(VALUES, 0.01, 16, rounding_generator(KEY, "node 0", "w"))
    second = quantise(VALUES, 0.01, 16, rounding_generator(KEY, "node 1", "w"))
    summed = dequantise(first + second, 0.01)
    np.testing.assert_allclose(summed, 2 * VALUES, atol=0.02)
    assert not np.array_equal(first, second)


def test_beyond_the_grid_are_its_ends() -> None:
    assert quantise(np.array([[99.0, -99.0, 0.2]]), 1.0, 2).tolist() == [[1, -1, 0]]
    assert quantise(np.array([[99.0, -99.0]]), 1.0, 1).tolist() == [[1, -1]]
    assert quantise(np.array([[3e38, -3e38]]), 1e-30, 32).tolist() == [[2**31 - 1, 1 - 2**31]]


@pytest.mark.parametrize("scale", [0.0, np.inf, np.nan])
def test_without_a_scale_all_integers_are_zero(scale: float) -> None:
    for bits in (1, 4):
        assert not quantise(np.array([[1.0, np.inf, np.nan]]), scale, bits).any()


def test_the_same_words_give_the_same_numbers_and_others_give_others() -> None:
    def draw(key: RoundKey, who: str, name: str) -> list[int]:
        return rounding_generator(key, who, name).integers(0, 1 << 30, 4).tolist()

    first = draw(KEY, "node 0", "w")
    assert draw(KEY, "node 0", "w") == first == [903182847, 1035089615, 872185033, 1047437672]
    others = [(RoundKey(3, "pretrain_sasrec", 8), "node 0", "w"), (KEY, "node 1", "w")]
    assert all(draw(*other) != first for other in [*others, (KEY, "node 0", "v")])


@pytest.mark.parametrize("most", [1, 5, 7, 127, 2**31 - 1])
def test_scales_by_range_reach_every_coordinate_with_few_digits(most: int) -> None:
    scales = scales_by_range(VALUES, most)
    assert (np.abs(VALUES).max(1) <= scales * np.float64(most)).all()
    assert not (scales.view(np.uint32) % SCALE_UNIT).any()
    assert (scales <= np.abs(VALUES).max(1) / most * (1 + 2**-3)).all()
    assert scales[2] == 0 < scales[3]


def test_the_largest_of_a_row_travel_as_signs_and_their_mean_size() -> None:
    values = np.array([[1, -8, 0.5, 6], [0, 0, 0, 0], [2, 2, -2, 2]], np.float32)
    integers, scales = signs_of_largest(values, 0.5)
    assert integers[0].tolist() == [0, -1, 0, 1]
    np.testing.assert_allclose(scales, [7.0, 0.0, 2.0])
    assert not integers[1].any()
    assert np.abs(integers[2]).sum() == 2  # of equal ones so many, not all
    assert (integers[2] * np.sign(values[2]) >= 0).all()


def test_at_least_one_of_a_row_travels() -> None:
    integers, scales = signs_of_largest(np.array([[1.0, -3.0, 2.0]], np.float32), 0.01)
    assert integers.tolist() == [[0, -1, 0]]
    assert scales.tolist() == [3.0]


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_the_mean_size_of_what_is_not_finite_is_not_either(odd: float) -> None:
    integers, scales = signs_of_largest(np.array([[1.0, odd, 2.0]], np.float32), 0.4)
    assert not np.isfinite(scales).any()
    assert not integers.any()


def test_scales_that_are_not_finite_stay_so() -> None:
    found = rounded_up(np.array([np.inf, np.nan, 1.0, 0.0, 1e-46]))
    assert np.isinf(found[0])
    assert np.isnan(found[1])
    assert found[2:4].tolist() == [1.0, 0.0]
    assert found[4] > 0
