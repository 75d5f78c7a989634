"""Who takes part: the users of a run, what they train on, who trains in a round, who is ranked."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import UserIndices
from fedmem.core.data.cold import Histories, load_histories
from fedmem.core.data.interactions import Interactions
from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings


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
