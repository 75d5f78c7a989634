"""What releases cost: ε at a given δ, for adding or removing all that one user ever did.

Every release is a sum to which a user adds a vector of length at most 1, with Gaussian noise. What
all users take part in composes exactly (J. Dong, A. Roth, W. Su, "Gaussian Differential Privacy",
2022); rounds of a secret Poisson sample by the privacy loss distribution of dp-accounting.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fedmem.core.errors import FedmemError

Floats = npt.NDArray[np.float64]

PRECISION = 1e-4
"""Of a noise multiplier that is searched for, relative; errors are on the side of more noise."""

LEAST_NOISE, MOST_NOISE = 0.1, 1e5
"""Between which it is searched for."""

INTERVAL = 1e-3
"""Steps of the privacy loss, rounded up: ε comes out too high by less than that, ten times sooner
than with dp-accounting's own."""


@dataclass(frozen=True)
class Release:
    """Noisy sums of one kind.

    Attributes:
        of: what they are sums of, as the name of a stage.
        noise: standard deviation of the noise, in units of the longest vector of a user.
        times: how many sums.
        rate: probability with which a user takes part in each, unknown to who sees the sums; 1:
            nothing is claimed of sampling.
        every: a user takes part in one of so many sums in a row, and everybody knows in which.
    """

    of: str
    noise: float
    times: int = 1
    rate: float = 1.0
    every: int = 1

    @property
    def participations(self) -> int:
        """In how many of the sums a user takes part at most."""
        return math.ceil(self.times / self.every)


def epsilon(releases: Sequence[Release], delta: float) -> float:
    """The ε of all releases together; infinite where one of them has no noise.

    Raises:
        FedmemError: some are of a secret sample, and dp-accounting is not installed.
    """
    releases = [each for each in releases if each.times]
    if not releases:
        return 0.0
    if any(each.noise <= 0 for each in releases):
        return math.inf
    if all(each.rate >= 1 for each in releases):
        return gaussian_epsilon(_mu(releases), delta)
    return _sampled_epsilon(tuple(releases), delta)


def noise_for(
    target: float, delta: float, planned: Sequence[Release], earlier: Sequence[Release] = ()
) -> float:
    """The noise multiplier with which planned releases, whose noise does not matter, keep to ε.

    Args:
        target: the ε.
        delta: the δ.
        planned: what is to be released with this noise.
        earlier: what was released before, or has a noise of its own.

    Raises:
        FedmemError: the earlier ones leave nothing, or dp-accounting is needed and not there.
    """

    def beyond(log_noise: float) -> float:
        noise = math.exp(log_noise)
        each = [*earlier, *(replace(release, noise=noise) for release in planned)]
        return epsilon(each, delta) - target

    from scipy.optimize import brentq  # takes half a second, and every run comes by here

    spent = epsilon(earlier, delta)
    if spent >= target:
        raise FedmemError(
            f"privacy.epsilon={target:g} is spent: what was released before has cost {spent:.3g}."
            "\nRaise privacy.epsilon, or start from checkpoints that cost less."
        )
    low = high = 1.0  # not far from what it is: little noise is dear to account for
    while beyond(math.log(high)) > 0:
        low, high = high, 2 * high
        if high > MOST_NOISE:
            raise FedmemError(
                f"No noise keeps to privacy.epsilon={target:g}: {spent:.3g} is spent. Raise it."
            )
    while beyond(math.log(low)) < 0:
        low, high = low / 2, low
        if low < LEAST_NOISE:
            return high
    found: float = brentq(beyond, math.log(low), math.log(high), xtol=PRECISION)
    return math.exp(found + 2 * PRECISION)


def _mu(releases: Sequence[Release]) -> float:
    """The μ of Gaussian releases together: that of one with noise 1 / μ."""
    return math.sqrt(sum(each.participations / each.noise**2 for each in releases))


def profile(releases: Sequence[Release], epsilons: Floats) -> Floats:
    """The δ of all releases together at each ε [E], ascending: all that their privacy comes to.

    Raises:
        FedmemError: some are of a secret sample, and dp-accounting is not installed.
    """
    if all(each.rate >= 1 for each in releases):
        return _gaussian_delta(_mu(releases), epsilons)
    return np.asarray(_accountant(tuple(releases)).get_delta(epsilons))


def _gaussian_delta(mu: float, epsilons: Floats) -> Floats:
    """B. Balle, Y.-X. Wang, "Improving the Gaussian Mechanism", ICML 2018, theorem 8:
    δ(ε) = Φ(μ/2 − ε/μ) − e^ε Φ(−μ/2 − ε/μ).
    """
    from scipy.stats import norm  # takes a second, and every run comes by here

    second = np.exp(epsilons + norm.logcdf(-mu / 2 - epsilons / mu))
    return np.asarray(norm.cdf(mu / 2 - epsilons / mu) - second)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The ε of a Gaussian release with noise 1 / μ."""
    from scipy.optimize import brentq  # takes half a second

    def beyond(eps: float) -> float:
        return float(_gaussian_delta(mu, np.array(eps))) - delta

    if beyond(0.0) <= 0:
        return 0.0
    high = 1.0
    while beyond(high) > 0:
        high *= 2
    found: float = brentq(beyond, 0.0, high, xtol=1e-9)
    return found


@cache
def _sampled_epsilon(releases: tuple[Release, ...], delta: float) -> float:
    return float(_accountant(releases).get_epsilon(delta))


def _accountant(releases: tuple[Release, ...]) -> Any:
    """dp-accounting's, with these releases."""
    try:
        from dp_accounting import dp_event, pld
    except ImportError as error:
        raise FedmemError(
            "privacy.schedule=poisson is accounted by dp-accounting, which is not installed: "
            "pip install dp-accounting.\nprivacy.schedule=all or every_k can do without."
        ) from error
    accountant = pld.PLDAccountant(value_discretization_interval=INTERVAL)
    exact = [each for each in releases if each.rate >= 1]
    if exact:  # Gaussians compose into one
        accountant.compose(dp_event.GaussianDpEvent(1 / _mu(exact)))
    for each in releases:
        if each.rate < 1:
            sampled = dp_event.PoissonSampledDpEvent(
                each.rate, dp_event.GaussianDpEvent(each.noise)
            )
            accountant.compose(sampled, each.participations)
    return accountant
