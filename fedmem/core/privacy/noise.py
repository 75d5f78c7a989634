"""The noise of each round of a stage, independent or correlated between rounds.

Correlated noise (banded matrix factorisation): where a user takes part in one of b rounds in a row,
the noise of a round may take back a part of that of the b − 1 before it, since no user is in two of
them. Sums over many rounds then have less of it: C. Choquette-Choo et al., "(Amplified) Banded
Matrix Factorization", NeurIPS 2023; the coefficients are those of the square root of the matrix of
prefix sums, N. Kalinin and C. Lampert, "Banded Square Root Matrix Factorization", NeurIPS 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedmem.core.model.parameters import Parameters
from fedmem.core.privacy.secret import Floats, SecretStreams


def bands(count: int) -> Floats:
    """The first `count` coefficients of (1 − x)^(−1/2), scaled to length 1: a column of C."""
    steps = np.arange(1, count)
    column = np.concatenate([[1.0], np.cumprod((2 * steps - 1) / (2 * steps))])
    return np.asarray(column / np.linalg.norm(column))


class NoiseSeries:
    """Noise Z = C⁻¹ W of a stage, a round a row, W standard normal and C banded with unit columns.

    A user who takes part in every b-th round adds to columns of C that are orthogonal, so the cost
    is that of independent noise in as many rounds. With one band the noise is independent.

    Args:
        streams: of the run.
        stage: whose rounds these are.
        count: b, bands.
        scope: the parameters that get noise.
    """

    def __init__(
        self, streams: SecretStreams, stage: str, count: int, scope: Mapping[str, Tensor]
    ) -> None:
        self._streams = streams
        self._stage = stage
        self._column = bands(count)
        self._shapes = {name: scope[name].shape for name in sorted(scope)}  # as files have them
        self._rounds: dict[int, Floats] = {}

    def of_round(self, server_round: int) -> Parameters:
        """The noise of a round, from 1, by parameter; of unit strength, float64."""
        flat = self._flat(server_round)
        noise, start = {}, 0
        for name, shape in self._shapes.items():
            noise[name] = torch.from_numpy(flat[start : start + shape.numel()].reshape(shape))
            start += shape.numel()
        return noise

    def _flat(self, server_round: int) -> Floats:
        """z_t = (w_t − Σ_i c_i z_{t−i}) / c_0; a run that goes on makes the earlier ones anew."""
        independent = len(self._column) == 1
        first = server_round if independent else max(self._rounds, default=0) + 1
        for number in range(first, server_round + 1):
            size = sum(shape.numel() for shape in self._shapes.values())
            total = self._streams.normal(f"noise/{self._stage}/{number}", size)
            for back, coefficient in enumerate(self._column[1:], 1):
                if number - back in self._rounds:
                    total -= coefficient * self._rounds[number - back]
            self._rounds[number] = total / self._column[0]
            self._rounds.pop(number - len(self._column), None)
        return self._rounds[server_round]


@dataclass(frozen=True)
class GaussianMechanism:
    """Makes the private mean of a round from the plain one.

    Attributes:
        noise: noise multiplier, in units of the longest update, which has length 1.
        expected: users that a round is expected to train: the denominator of every round.
        series: the noise of the stage's rounds; None: the nodes have added theirs.
    """

    noise: float
    expected: float
    series: NoiseSeries | None

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise in a number of the mean."""
        return self.noise / self.expected

    def release(self, mean: Mapping[str, Tensor], weight: int, server_round: int) -> Parameters:
        """The private mean, from the mean of so many users' bounded updates."""
        share = weight / self.expected
        if self.series is None:
            return {name: value * share for name, value in mean.items()}
        unit = self.series.of_round(server_round)
        return {
            name: (value.double() * share + self.deviation * unit[name].to(value.device)).to(
                value.dtype
            )
            for name, value in mean.items()
        }
