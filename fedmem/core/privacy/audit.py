"""What canaries say of a run: an estimate of its ε, and a lower bound that holds in one run.

Canaries are users that take part or not, by a fair coin each. An attacker who sees all that was
released guesses the coins; more right guesses than a ledger allows refute it.

T. Steinke, M. Nasr, M. Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023, count
guesses of many canaries in one run. Their bound looks at one pair (ε, δ); that of S. Mahloujifar,
L. Melis, K. Chaudhuri, "Auditing f-Differential Privacy in One Run", 2024, at all pairs that a
ledger promises at once, and shows ε = 8 with 1,000 canaries where the other shows it with none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fedmem.core.privacy.accounting import Floats, Release, epsilon, gaussian_epsilon, profile
from fedmem.core.privacy.attack import auc

Bits = npt.NDArray[np.bool_]

GUESSED = (0.5, 0.25, 0.1)
"""Shares of the canaries that are guessed, those that the attacker is surest of; fixed before
anybody looks, and each is a test of its own."""

LEVEL = 0.05
"""Probability with which the lower bound is above the ε of a ledger that is right, at most."""

EPSILONS = np.arange(0.0, 24.0, 0.25)
"""Where a ledger's promise is looked at; between them it is taken to promise less."""

NOISE_STEPS = 8
"""Halvings of a factor of two between noise multipliers, in search of the smallest that is refuted.
"""

MOST = 64.0
"""How many times more or less noise than the ledger's is looked at."""


@dataclass(frozen=True)
class Audit:
    """What an audit has found.

    Attributes:
        claimed: ε by the ledger.
        estimate: ε̂, of two normal curves of one width over the scores of canaries that were in and
            of those that were not, after G. Andrew et al., "One-shot Empirical Privacy Estimation
            for Federated Learning", ICLR 2024.
        bound: a lower bound of ε, with a confidence of 95%.
        telling: whether so many canaries could refute the ledger at all, had all been guessed.
        auc: how often a canary that was in has a higher score than one that was not.
        canaries: how many there were.
    """

    claimed: float
    estimate: float
    bound: float
    telling: bool
    auc: float
    canaries: int

    @property
    def refutes(self) -> bool:
        """Whether the ledger promises more than what was run keeps."""
        return self.bound > self.claimed


def likelihood_ratios(seen: Floats, taken: Floats, noise: float, rate: float) -> Floats:
    """Log of how much likelier [C] what was seen of each canary is if it was in than if not.

    Args:
        seen: [T, C] what each round shows of each canary, with independent noise: its part of the
            sum if it took part, of length 1, and nothing if not.
        taken: [T, C] how much of the canary a round holds if it was in, and nobody hid it.
        noise: standard deviation of the noise.
        rate: probability with which a canary that was in took part in a round, in secret.
    """
    ratios = (seen * taken - taken**2 / 2) / noise**2
    if rate < 1:
        ratios = np.logaddexp(np.log1p(-rate), np.log(rate) + ratios)
    return np.asarray(ratios.sum(0))


def judge(scores: Floats, present: Bits, releases: Sequence[Release], delta: float) -> Audit:
    """What scores [C] say of the ledger of releases, of canaries that were `present` [C] or not."""
    right = np.sign(scores) == np.where(present, 1, -1)
    surest, count = np.argsort(-np.abs(scores), kind="stable"), len(scores)
    guessed = [max(1, round(share * count)) for share in GUESSED]
    found = [(many, int(right[surest[:many]].sum())) for many in guessed]
    return Audit(
        claimed=epsilon(releases, delta),
        estimate=_estimate(scores, present, delta),
        bound=_bound(found, count, releases, delta),
        telling=_refuted([(many, many) for many in guessed], count, releases),
        auc=auc(scores, np.flatnonzero(present) + 1),
        canaries=count,
    )


def _estimate(scores: Floats, present: Bits, delta: float) -> float:
    inside, outside = scores[present], scores[~present]
    width = np.sqrt((inside.var(ddof=1) + outside.var(ddof=1)) / 2)
    apart = inside.mean() - outside.mean()
    if apart <= 0:
        return 0.0
    return gaussian_epsilon(float(apart / width), delta) if width > 0 else np.inf


def _bound(
    guesses: Sequence[tuple[int, int]], count: int, releases: Sequence[Release], delta: float
) -> float:
    """The ε of the ledger with the least noise that guesses (how many, how many right) refute.

    Ledgers with more noise promise more, so they are refuted too. None is: 0.
    """

    def less(times: float) -> list[Release]:
        return [replace(each, noise=each.noise * times) for each in releases]

    def refuted(times: float) -> bool:
        return _refuted(guesses, count, less(times))

    low = high = 1.0  # not far from what it is: little noise is dear to account for
    while not refuted(high):
        low, high = high, 2 * high
        if high > MOST:
            return 0.0
    while low == high or refuted(low):
        low, high = low / 2, low
        if low < 1 / MOST:
            break
    for _ in range(NOISE_STEPS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if refuted(middle) else (middle, high)
    return epsilon(less(high), delta)


def _refuted(guesses: Sequence[tuple[int, int]], count: int, releases: Sequence[Release]) -> bool:
    """Whether one of the guesses (how many, how many right) is too good for a ledger."""
    deltas, level = profile(releases, EPSILONS), LEVEL / len(guesses)
    return any(refutes(deltas, count, many, right, level) for many, right in guesses)


def refutes(deltas: Floats, count: int, guessed: int, right: int, level: float) -> bool:
    """Whether so many right guesses are too many for a promise, at a level of significance.

    Let p_w be the probability of w right guesses, R_v = Σ_{w≥v} w p_w / C and H_v = Σ_{w≥v} (G − w)
    p_w / C. A canary's coin, turned over, makes its right guess a wrong one. So where the promise
    keeps the probability of any event below F(x), x that of a neighbour, R_v ≤ F(H_{v−1}) for every
    v. From R and H at `right`, had as many right guesses a probability of `level`, the least of all
    others is found; the promise is refuted where that is more than there is.

    Args:
        deltas: [E] the promise, δ at each of `EPSILONS`.
        count: C, the canaries.
        guessed: G of them.
        right: how many of the guesses were right.
        level: of significance.
    """
    factors = np.exp(EPSILONS)

    def least(y: float) -> float:
        """The least x with F(x) ≥ y, F the smallest of the lines e^ε x + δ and of their mirrors."""
        straight, mirrored = (y - deltas) / factors, 1 - deltas - factors * (1 - y)
        return max(0.0, float(straight.max()), float(mirrored.max()))

    right_share, wrong_share = level * right / count, level * (guessed - right) / count
    for below in range(right - 1, -1, -1):
        needed = max(wrong_share, least(right_share))
        right_share += (needed - wrong_share) * below / (guessed - below)
        wrong_share = needed
        if right_share + wrong_share > guessed / count:
            return True
    return False
