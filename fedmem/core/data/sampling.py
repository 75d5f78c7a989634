"""Who takes part: the users of a run, the nodes that they live at, who trains and who is ranked."""

from __future__ import annotations

import heapq
import zlib

import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import UserIndices
from fedmem.core.data.cold import Histories, load_histories
from fedmem.core.data.interactions import Interactions
from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings

RANKING_COST = 10.0  # measured in stage 1: 3 (short histories) to 15 targets, on both MovieLens


def participants(settings: Settings, histories: Histories | None = None) -> UserIndices:
    """Indices of the users that take part, ascending; more clients take in all of fewer clients.

    `histories` are those of the settings, unless given.

    Raises:
        FedmemError: the data are not there, or have fewer users than are asked for.
    """
    warm = (histories or load_histories(settings)).warm
    wanted = settings.federation.num_clients
    if wanted is None:
        return warm.complete
    if wanted > warm.num_users:
        raise FedmemError(
            f"federation.num_clients={wanted}, but the data have {warm.num_users} users."
        )
    key = [settings.seed, zlib.crc32(b"participants")]
    drawn = np.random.default_rng(key).permutation(warm.num_users)[:wanted]
    return np.intersect1d(drawn, warm.complete)


def targets_in_windows(
    settings: Settings, interactions: Interactions, users: UserIndices
) -> npt.NDArray[np.int64]:
    """Targets [U] that the windows of each of these users hold: what one local step trains on."""
    held = settings.client.windows * settings.model.max_length
    return np.minimum(interactions.targets[users], held)


def expected_work(settings: Settings, targets: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Expected work [U] of each user a round, in targets trained, from `targets_in_windows` [U].

    Training happens for a sampled share of the users each round; ranking, which costs about
    `RANKING_COST` targets, at each validation for everyone, or for `evaluation.users` of them.
    """
    federation, ranked = settings.federation, settings.evaluation.users
    share = 1.0 if ranked is None else min(1.0, ranked / max(len(targets), 1))
    work = federation.fraction * targets + share * RANKING_COST / federation.evaluate_every
    return np.asarray(work, np.float64)


def share_out(users: UserIndices, work: npt.NDArray[np.float64], nodes: int) -> list[UserIndices]:
    """The users that live at each simulated node, ascending, balanced by expected work.

    The user with most work goes first, each to the node that has the least so far; ties go by
    order. So every process finds the same assignment, and the busiest node has at most a third more
    work than in the best one. Users and their `expected_work` are [U].
    """
    homes: list[list[int]] = [[] for _ in range(nodes)]
    load = [(0.0, node) for node in range(nodes)]  # a heap, since it is in order
    for place in np.argsort(-work, kind="stable"):
        least, node = load[0]
        heapq.heapreplace(load, (least + float(work[place]), node))
        homes[node].append(int(place))
    return [users[np.sort(np.array(home, dtype=np.int64))] for home in homes]


def sample_round(
    users: UserIndices, fraction: float, seed: int, stage: str, server_round: int
) -> UserIndices:
    """The users that train in a round, ascending; it depends on no node."""
    generator = np.random.default_rng([seed, zlib.crc32(stage.encode()), server_round])
    size = max(1, round(fraction * len(users)))
    return np.sort(generator.choice(np.sort(users), size=size, replace=False))


def sample_ranked(settings: Settings, users: UserIndices) -> UserIndices:
    """The users whose held-out items are ranked, ascending: `evaluation.users` of these, or all.

    Each user has a number of its own by the seed, and those with the lowest are drawn. So they are
    the same in every round and stage, more take in all of fewer, and where a user joins or goes at
    most one other changes places.
    """
    users, wanted = np.sort(users), settings.evaluation.users
    if wanted is None or wanted >= len(users):
        return users
    generator = np.random.default_rng([settings.seed, zlib.crc32(b"ranked")])
    numbers = generator.random(int(users[-1]) + 1)[users]
    return np.sort(users[np.argsort(numbers, kind="stable")[:wanted]])
