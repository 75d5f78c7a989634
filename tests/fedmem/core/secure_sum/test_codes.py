"""Fixed-point codes: unbiased, of a known error, and never around the modulus."""

from __future__ import annotations

import numpy as np
import pytest

from fedmem.core.errors import FedmemError
from fedmem.core.secure_sum.codes import (
    counts_length,
    decode,
    decode_counts,
    encode,
    encode_counts,
    integer_type,
    largest,
    most_members,
)


@pytest.mark.parametrize(("bits", "scale"), [(16, 1000.0), (32, 1e8)])
def test_a_sum_of_codes_is_the_sum_of_numbers_within_the_stated_error(
    bits: int, scale: float
) -> None:
    generator = np.random.default_rng(0)
    numbers = generator.uniform(-3, 3, size=(5, 20_000))
    total = np.zeros(20_000, integer_type(bits))
    for own in numbers:
        integers, cut = encode(own, scale, bits, 5, generator)
        assert cut == 0
        assert np.abs(decode(integers, scale) - own).max() < 1 / scale
        total += integers
    error = (decode(total, scale) - numbers.sum(0)) * scale
    assert np.abs(error).max() < 5
    assert abs(error.mean()) < 4 * np.sqrt(5 / 4 / 20_000)
    assert error.var() < 5 / 4


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("parties", [3, 7, 200])
def test_what_is_too_large_is_cut_and_no_sum_goes_around(bits: int, parties: int) -> None:
    generator = np.random.default_rng(0)
    huge = np.array([1e30, -1e30, 0.0, 0.25])
    total = np.zeros(4, integer_type(bits))
    for _ in range(parties):
        integers, cut = encode(huge, 4.0, bits, parties, generator)
        assert cut == 2
        total += integers
    most = parties * largest(bits, parties)
    assert decode(total, 1.0).tolist() == [most, -most, 0, parties]
    assert most < 1 << (bits - 1)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_is_not_encoded(wrong: float) -> None:
    with pytest.raises(FedmemError, match="not finite; nothing of it was sent"):
        encode(np.array([1.0, wrong]), 1.0, 32, 3, np.random.default_rng(0))


@pytest.mark.parametrize("bits", [16, 32])
def test_counts_of_as_many_members_as_there_may_be_are_exact(bits: int) -> None:
    members, counts = min(most_members(bits), 256), {"targets": 2**40 - 1, "users": 0, "loss": 77}
    one = encode_counts(counts, bits)
    assert len(one) == counts_length(3, bits)
    total = np.zeros_like(one)
    for _ in range(members):
        total += one
    expected = {name: members * count for name, count in counts.items()}
    assert decode_counts(total, list(counts)) == expected


@pytest.mark.parametrize("count", [-1, 1 << 48])
def test_a_count_that_does_not_fit_is_named(count: int) -> None:
    with pytest.raises(FedmemError, match=f"targets={count} cannot be summed"):
        encode_counts({"targets": count}, 32)
