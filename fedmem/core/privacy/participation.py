"""Who takes part in a private round, and what may be claimed of it."""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import UserIndices
from fedmem.core.privacy.secret import SecretStreams


def every_kth(users: UserIndices, count: int, seed: int, server_round: int) -> UserIndices:
    """One of `count` blocks of the users, in turn: an order that anybody may know.

    A user's block depends on the user's index alone, so that nobody has two turns among `count`
    rounds because others came or went.
    """
    users = np.sort(users)
    groups, first = np.unique(users // count, return_inverse=True)
    orders = np.stack([_order(seed, int(group), count) for group in groups])
    turn = orders[first, users % count] == (server_round - 1) % count
    return np.asarray(users[turn])


@cache
def _order(seed: int, group: int, count: int) -> npt.NDArray[np.int64]:
    """The blocks of `count` users in a row, one in each."""
    generator = np.random.default_rng([seed, zlib.crc32(b"blocks"), group])
    return np.asarray(generator.permutation(count))


def poisson(
    users: UserIndices, rate: float, streams: SecretStreams, stage: str, server_round: int
) -> UserIndices:
    """Each user with probability `rate`, independently; nobody without the key knows who."""
    users = np.sort(users)
    drawn = streams.uniform(f"sample/{stage}/{server_round}", len(users))
    return users[drawn < rate]
