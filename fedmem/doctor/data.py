"""Histories, and what a round makes of them."""

from __future__ import annotations

import numpy as np

from fedmem.core.data.sampling import targets_in_windows
from fedmem.doctor.case import Case
from fedmem.doctor.finding import Finding, check, ok, problem, warn_if

OF_SETTINGS = ("round", "loss")
"""Checks of what a run makes of the data, rather than of the data."""


@check("interactions", quick=True)
def interactions(case: Case) -> Finding:
    """The file of interactions is there, whole, and leaves users.

    Problem: it is missing, is no table, or no user has `data.min_interactions`.
    """
    found, lengths = case.interactions, case.interactions.lengths
    return ok(
        f"{found.num_users:,} users, {found.num_items:,} items, {len(found.items):,} interactions; "
        f"{lengths.min()} to {lengths.max():,} a user, half have {np.median(lengths):.0f} or more"
    )


@check("histories", quick=True)
def histories(case: Case) -> Finding:
    """Users have something to train on: a history less the first and the two held-out items.

    Warning: more than one user in ten has no target.
    Problem: no user has one.
    """
    targets = case.interactions.targets[case.users]
    without = int((targets == 0).sum())
    held = targets_in_windows(case.settings, case.interactions, case.users)
    share = held.sum() / max(targets.sum(), 1)
    figure = f"{without:,} of {len(targets):,} users have no training target"
    if without == len(targets):
        return problem(figure, "use data with more than 3 interactions a user.")
    many = without > 0.1 * len(targets)
    figure += "" if many else f"; the windows hold {share:.0%} of all targets"
    advice = "raise data.min_interactions, so that they do not dilute rounds."
    return warn_if(many, figure, advice)


@check("round", quick=True)
def round_size(case: Case) -> Finding:
    """Users of a round, and how often each takes part.

    Warning: a stage has too few rounds for a user to be drawn even once on average.
    Problem: `federation.fraction` of the users is below one, or there are fewer users than
    `federation.num_clients` or `federation.nodes` ask for.
    """
    federation, num_users = case.settings.federation, len(case.users)
    if federation.nodes != "auto" and federation.nodes > num_users:
        figure = f"federation.nodes={federation.nodes}, but only {num_users} users take part"
        return problem(figure, "set federation.nodes=auto.")
    size = federation.fraction * num_users
    figure = f"federation.fraction={federation.fraction} of {num_users:,} users is {size:.1f}"
    if size < 1:
        return problem(figure, f"set federation.fraction to at least {1 / num_users:.2g}.")
    rounds = {name: case.settings.of_stage(name).rounds for name in case.settings.stage}
    rarest = min(rounds, key=rounds.__getitem__)
    times = federation.fraction * rounds[rarest]
    figure += f"; each trains {times:.1f} times in the {rounds[rarest]} rounds of {rarest}"
    return warn_if(times < 1, figure, "raise federation.rounds or federation.fraction.")


@check("rankings", quick=True)
def rankings(case: Case) -> Finding:
    """Items enough for the `sampled` ranking.

    Warning: some users have touched so many that fewer than `evaluation.negatives` are left.
    """
    found, wanted = case.interactions, case.settings.evaluation.negatives
    left = found.num_items - found.lengths[case.users]
    short = int((left < wanted).sum())
    figure = f"{short:,} of {len(left):,} users have fewer than {wanted} items never touched"
    advice = "lower evaluation.negatives, or read their HR@10 with care."
    return warn_if(short > 0, figure, advice)


@check("loss", quick=True)
def loss(case: Case) -> Finding:
    """Every stage has something to minimise.

    Problem: no term of the loss by which a stage trains has a weight.
    """
    for stage in case.stages:
        if not case.settings.of_stage(stage.name).loss.minimised(stage):
            return problem(
                f"{stage.name} has no loss: no term by which it trains has a weight",
                f"set a weight in loss or stage.{stage.name}.loss above 0.",
            )
    return ok("every stage has a loss")
