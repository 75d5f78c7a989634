"""The noise of rounds: independent, or banded so that sums over rounds have less of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import toeplitz

from fedmem.core.privacy.noise import GaussianMechanism, NoiseSeries, bands
from fedmem.core.privacy.secret import SecretStreams

STREAMS = SecretStreams("01" * 32)
SCOPE = {"a": torch.zeros(2, 3), "b": torch.zeros(5)}
ROUNDS = 12


def rows(count: int) -> np.ndarray:
    """[rounds, 11] noise of all rounds, one after the other."""
    series = NoiseSeries(STREAMS, "stage", count, SCOPE)
    drawn = [series.of_round(number) for number in range(1, ROUNDS + 1)]
    return np.stack([torch.cat([each["a"].flatten(), each["b"]]).numpy() for each in drawn])


def independent() -> np.ndarray:
    return np.stack([STREAMS.normal(f"noise/stage/{n}", 11) for n in range(1, ROUNDS + 1)])


def test_the_bands_are_those_of_a_square_root_at_length_one() -> None:
    whole = np.array([1, 1 / 2, 3 / 8, 5 / 16])
    np.testing.assert_allclose(bands(4), whole / np.linalg.norm(whole))
    assert bands(1) == [1.0]


def test_one_band_is_independent_noise_by_parameter() -> None:
    np.testing.assert_array_equal(rows(1), independent())


@pytest.mark.parametrize("count", [2, 4])
def test_banded_noise_times_its_matrix_is_the_independent_noise(count: int) -> None:
    column = np.zeros(ROUNDS)
    column[:count] = bands(count)
    matrix = np.tril(toeplitz(column))
    np.testing.assert_allclose(matrix @ rows(count), independent(), atol=1e-12)


def test_what_a_user_adds_every_kth_round_has_orthogonal_columns_of_length_one() -> None:
    column = np.zeros(ROUNDS)
    column[:3] = bands(3)
    matrix = np.tril(toeplitz(column))
    own = matrix[:, 1::3]  # the rounds of the second block
    gram = own.T @ own
    np.testing.assert_allclose(gram - np.diag(np.diag(gram)), 0.0, atol=1e-12)
    assert np.diag(gram).max() == pytest.approx(1.0)


def test_a_sum_over_rounds_has_less_banded_noise() -> None:
    wide = {"a": torch.zeros(4000)}
    sums = []
    for count in (1, 4):
        series = NoiseSeries(STREAMS, "stage", count, wide)
        sums.append(sum(series.of_round(n)["a"] for n in range(1, 41)).std())  # type: ignore[union-attr]
    assert sums[1] < 0.7 * sums[0]


@pytest.mark.parametrize("count", [1, 3])
def test_a_series_that_begins_later_has_the_same_noise(count: int) -> None:
    late = NoiseSeries(STREAMS, "stage", count, SCOPE).of_round(7)
    np.testing.assert_array_equal(late["a"].flatten().numpy(), rows(count)[6, :6])


def test_the_private_mean_by_hand() -> None:
    series = NoiseSeries(STREAMS, "stage", 1, SCOPE)
    mechanism = GaussianMechanism(noise=3.0, expected=20.0, series=series)
    mean = {"a": torch.ones(2, 3), "b": torch.zeros(5)}
    found = mechanism.release(mean, weight=10, server_round=2)
    noise = torch.from_numpy(STREAMS.normal("noise/stage/2", 11)[:6].reshape(2, 3))
    torch.testing.assert_close(found["a"], (0.5 + 0.15 * noise).float())
    assert found["b"].dtype == torch.float32
