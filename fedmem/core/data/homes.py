"""Where simulated users live: on nodes that have as much work each, in every round."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import UserIndices
from fedmem.core.data.sampling import sample_round
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES

ROUNDS_PLANNED = 100
"""Of each stage, by whose samples homes are found: with more there would be less choice."""

WORK_AT_MOST = 1 << 24
"""Numbers of users and rounds that homes are found by: 64 MB."""

RANKING_COST = 10.0  # measured in stage 1: 3 (short histories) to 15 targets, on both MovieLens


def expected_work(settings: Settings, targets: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Expected work [U] of each user a round, in targets trained, from `targets_in_windows` [U].

    Training happens for a sampled share of the users each round; ranking, which costs about
    `RANKING_COST` targets, at each validation for everyone, or for `evaluation.users` of them.
    """
    federation, ranked = settings.federation, settings.evaluation.users
    share = 1.0 if ranked is None else min(1.0, ranked / max(len(targets), 1))
    work = federation.fraction * targets + share * RANKING_COST / federation.evaluate_every
    return np.asarray(work, np.float64)


def work_by_round(
    settings: Settings, users: UserIndices, targets: npt.NDArray[np.integer]
) -> npt.NDArray[np.float32]:
    """Work [U, K] of these users, with targets [U]: expected, and in each of the first rounds of
    the stages, where it is known beforehand who trains.

    Not in the rounds of a run alone: nobody's home may hang on how a run is parted. Of very many
    users chance gives each node its share, and work is `expected_work` alone.
    """
    rounds = [(stage, number) for stage in STAGES for number in range(1, ROUNDS_PLANNED + 1)]
    if len(users) * len(rounds) > WORK_AT_MOST:
        rounds = []
    work = np.zeros((len(users), 1 + len(rounds)), np.float32)
    work[:, 0] = expected_work(settings, targets)
    for column, (stage, number) in enumerate(rounds, start=1):
        sample = sample_round(users, settings.federation.fraction, settings.seed, stage, number)
        places = np.searchsorted(users, sample)
        work[places, column] = targets[places]
    return work


def share_out(users: UserIndices, work: npt.NDArray[np.floating], nodes: int) -> list[UserIndices]:
    """The users [U] that live at each simulated node, ascending, balanced in all of their work.

    A round takes as long as the node with most work in it. Of work [U, K], the user with most of
    the first kind goes first, each to the node that then has the least sum of squared loads over
    all kinds; ties go by order. So every process finds the same assignment. With one kind that is
    the node with the least so far, and the busiest has at most a third more than in the best
    assignment (R. L. Graham, "Bounds on Multiprocessing Timing Anomalies", 1969).
    """
    home = _assigned(np.argsort(-work[:, 0], kind="stable"), work, nodes)
    return [users[home == node] for node in range(nodes)]


@numba.njit(cache=True, nogil=True)
def _assigned(order, work, nodes):  # type: ignore[no-untyped-def]
    """The node [U] of each user, who come in this order."""
    load, home = np.zeros((nodes, work.shape[1])), np.empty(len(work), np.int64)
    for user in order:
        own, least = work[user], np.inf
        for node in range(nodes):
            shared = 0.0  # half of what the sum of squares grows by, but for what all nodes share
            for kind in range(own.size):
                shared += load[node, kind] * own[kind]
            if shared < least:
                least, home[user] = shared, node
        load[home[user]] += own
    return home
