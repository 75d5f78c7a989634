"""From a budget to a run's noise, and from noise to the rounds that a budget allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedmem.core.errors import FedmemError
from fedmem.core.privacy.accounting import Release, epsilon, noise_for
from fedmem.core.privacy.ledger import Ledger, releases_of
from fedmem.core.privacy.secret import new_key
from fedmem.core.settings import Settings

FIGURES = 2
"""Noised figures of a stage: one validation, one test."""


def blocks(settings: Settings) -> int:
    """Rounds in a row of which each user takes part in one; 1: there is no such order."""
    ordered = settings.privacy.schedule == "every_k"
    return max(1, round(1 / settings.federation.fraction)) if ordered else 1


def rounds_of(settings: Settings, stage: str, noise: float, rounds: int = 1) -> Release:
    """What so many rounds of a stage release."""
    secret = settings.privacy.schedule == "poisson"
    rate = settings.federation.fraction if secret else 1.0
    return Release(stage, noise, rounds, rate, blocks(settings))


def figures_of(settings: Settings, stage: str, times: int = 1) -> Release:
    """What so many noised validations or tests of a stage release."""
    return Release(f"figures of {stage}", settings.privacy.figures_noise, times)


def planned(settings: Settings, noise: float) -> tuple[list[Release], list[Release]]:
    """What all stages of a run are to release: their rounds, and their figures where noised."""
    names = list(settings.stage)
    rounds = [rounds_of(settings, n, noise, settings.of_stage(n).rounds) for n in names]
    noised = names if settings.privacy.noises_figures else []
    return rounds, [figures_of(settings, n, FIGURES) for n in noised]


def noise_multiplier(settings: Settings, earlier: Sequence[Release] = ()) -> float:
    """That of a run's rounds: as set, or as much as `privacy.epsilon` asks for.

    Raises:
        FedmemError: the budget is spent already.
    """
    privacy = settings.privacy
    assert privacy.epsilon is not None
    if privacy.noise is not None:
        return privacy.noise
    rounds, figures = planned(settings, 1.0)
    return noise_for(privacy.epsilon, privacy.delta, rounds, [*earlier, *figures])


def open_ledger(
    settings: Settings, users: int, checkpoints: Mapping[str, Sequence[Mapping[str, Any]] | None]
) -> Ledger:
    """The ledger that a run begins with.

    Args:
        settings: of the run.
        users: that take part.
        checkpoints: that its first stage starts from: what they have released, by stage; None: they
            were trained without privacy.

    Raises:
        FedmemError: δ promises nothing for so many users, a checkpoint was trained without privacy,
            or two are not of one lineage.
    """
    privacy = settings.privacy
    if privacy.delta >= 1 / users:
        raise FedmemError(
            f"privacy.delta={privacy.delta:g} is no promise for {users} users: it must be below "
            f"{1 / users:.2g}."
        )
    found: dict[str, tuple[Release, ...]] = {}
    for stage, entries in checkpoints.items():
        if entries is None:
            raise FedmemError(
                f"The checkpoint of {stage} was trained without privacy, so no ε would hold for "
                f"what comes of it.\nTrain {stage} with privacy={privacy.mode}, or set "
                "privacy=none."
            )
        found[stage] = releases_of(entries)
    longest = max(found.values(), key=len, default=())
    for stage, releases in found.items():
        if releases != longest[: len(releases)]:
            raise FedmemError(
                f"The privacy ledger in the checkpoint of {stage} is of another run than that of "
                "the stage after it.\nPoint checkpoint.* to the checkpoints of one run."
            )
    noise = noise_multiplier(settings, longest)
    return Ledger(privacy.delta, noise, new_key(), longest)


def affordable(settings: Settings, ledger: Ledger, stage: str, rounds: int) -> int:
    """How many of a stage's rounds `privacy.epsilon` allows, all figures to come paid first.

    Raises:
        FedmemError: none.
    """
    target = settings.privacy.epsilon
    assert target is not None
    past = {each.of for each in ledger.releases}
    fixed = [*ledger.releases, *(e for e in planned(settings, 1.0)[1] if e.of not in past)]

    def cost(count: int) -> float:
        return epsilon([*fixed, rounds_of(settings, stage, ledger.noise, count)], ledger.delta)

    if cost(rounds) <= target:
        return rounds
    low, high = 0, rounds
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= target else (low, middle)
    if low == 0:
        raise FedmemError(
            f"privacy.epsilon={target:g} allows no round of {stage}: {ledger.epsilon:.3g} is "
            f"spent, and a round with noise {ledger.noise:.3g} costs more than is left."
        )
    return low


def require_affordable(settings: Settings, ledger: Ledger) -> None:
    """Refuse to release what a ledger counts already.

    Raises:
        FedmemError: it has spent more than `privacy.epsilon`.
    """
    target, spent = settings.privacy.epsilon, ledger.epsilon
    if target is not None and spent > target * (1 + 1e-3):
        raise FedmemError(
            f"This round would spend more than privacy.epsilon={target:g}, {spent:.3g}: it is not "
            "sent."
        )


def charged(settings: Settings, ledger: Ledger, stage: str) -> Ledger:
    """A ledger with one more round of a stage."""
    return ledger.charged(replace(rounds_of(settings, stage, ledger.noise), times=1))
