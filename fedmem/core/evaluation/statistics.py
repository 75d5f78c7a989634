"""How sure a difference is: paired over users by the bootstrap, over seeds as mean ± s.d.

Two arms are compared on the same users, each with its own held-out item and its own negatives, so
what users differ in falls out of the difference (B. Efron and R. Tibshirani, "An Introduction to
the Bootstrap", 1993). An interval speaks of users: were others drawn, the mean difference would
come to lie in it 95 times of 100. What seeds change is reported apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedmem.core.evaluation.protocol import Ranks, metrics_of

RESAMPLES = 5000
AT_ONCE = 1 << 22
"""Drawn numbers that are held at a time."""


@dataclass(frozen=True)
class Interval:
    """A mean and where it may lie."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Difference:
    """One arm less another, on the same users and seeds.

    Attributes:
        metric: `<ranking>/<name>`, such as `sampled/HR@10`.
        users: over how many.
        over_users: mean of the users' differences, each the mean over the seeds, and its interval.
        by_seed: [S] mean over the users, of each seed.
    """

    metric: str
    users: int
    over_users: Interval
    by_seed: list[float]

    @property
    def over_seeds(self) -> tuple[float, float]:
        """Mean and standard deviation over seeds."""
        return mean_and_deviation(self.by_seed)


def mean_and_deviation(values: Sequence[float] | npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation (of a sample, n − 1); the latter is NaN of one value."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else float("nan")


def paired_interval(
    ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64], seed: int = 0
) -> Interval:
    """Mean of `ours` − `theirs`, [U] each of the same users, and its bootstrap 95% interval."""
    mean = float(np.mean(ours - theirs))
    if len(ours) < 2 or np.ptp(ours - theirs) == 0:
        return Interval(mean, mean, mean)
    low, high = bootstrap_interval(
        (ours, theirs),
        lambda a, b, axis: np.mean(a, axis=axis) - np.mean(b, axis=axis),
        RESAMPLES,
        max(1, AT_ONCE // len(ours)),
        np.random.default_rng(seed),
    )
    return Interval(mean, low, high)


def bootstrap_interval(
    samples: tuple[npt.NDArray[np.generic], ...],
    statistic: Callable[..., Any],
    resamples: int,
    at_once: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """The 95% interval of a statistic of paired samples [U], vectorised over their `axis`."""
    from scipy import stats  # takes a second, and most commands come here without a need for it

    interval = stats.bootstrap(
        samples,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=at_once,
        confidence_level=0.95,
        method="percentile",
        rng=generator,
    ).confidence_interval
    return float(interval.low), float(interval.high)


def compare(
    ours: Sequence[Ranks],
    theirs: Sequence[Ranks],
    metrics: Sequence[str],
    among: Sequence[npt.NDArray[np.bool_]] | None = None,
    seed: int = 0,
) -> list[Difference]:
    """The differences of two arms in these metrics, user by user.

    Args:
        ours: ranks of one arm, by seed. A number of a user means the same person in all of them.
        theirs: of the other, of the same seeds in the same order, each with the same users in the
            same order.
        metrics: `<ranking>/<name>`.
        among: by seed, [U] which users to look at; None: all. A user counts in the seeds in which
            it is chosen.
        seed: of the bootstrap.

    Returns:
        One for each metric; none where no user is looked at.

    Raises:
        ValueError: the two do not have the same seeds, or not the same users.
    """
    for one, other in zip(ours, theirs, strict=True):
        if not np.array_equal(one.users, other.users):
            raise ValueError("only ranks of the same users can be compared")
    chosen = [np.ones(len(one.users), np.bool_) for one in ours] if among is None else among
    users = [one.users[rows] for one, rows in zip(ours, chosen, strict=True)]
    who, place = np.unique(np.concatenate(users), return_inverse=True)
    times = np.bincount(place, minlength=len(who))
    found = []
    for metric in metrics if len(who) else ():
        mine, yours = _values(ours, metric, chosen), _values(theirs, metric, chosen)
        by_seed = [float((a - b).mean()) for a, b in zip(mine, yours, strict=True) if len(a)]
        a, b = (np.bincount(place, np.concatenate(arm), len(who)) / times for arm in (mine, yours))
        found.append(Difference(metric, len(who), paired_interval(a, b, seed), by_seed))
    return found


def _values(
    arm: Sequence[Ranks], metric: str, chosen: Sequence[npt.NDArray[np.bool_]]
) -> list[npt.NDArray[np.float64]]:
    """The metric [u] of each seed's users that are chosen [U]."""
    ranking, name = metric.split("/")
    return [
        np.asarray(metrics_of(ranks.ranks[ranking][rows])[name], np.float64)
        for ranks, rows in zip(arm, chosen, strict=True)
    ]
