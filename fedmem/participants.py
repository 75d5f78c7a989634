"""Who takes part: the users of a run, the nodes that they live at, and the sample of a round."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

from fedmem.errors import FedmemError
from fedmem.settings import FederationSettings

UserIndices = npt.NDArray[np.integer]


def participants(settings: FederationSettings, num_users: int, seed: int) -> UserIndices:
    """Indices of the users that take part, ascending; more clients take in all of fewer clients.

    Raises:
        FedmemError: more are asked for than there are.
    """
    if settings.num_clients is None:
        return np.arange(num_users)
    if settings.num_clients > num_users:
        raise FedmemError(
            f"federation.num_clients={settings.num_clients}, but the data have {num_users} users."
        )
    order = np.random.default_rng([seed, zlib.crc32(b"participants")]).permutation(num_users)
    return np.sort(order[: settings.num_clients])


def users_of_node(users: UserIndices, node: int, nodes: int) -> UserIndices:
    """The users that live at simulated node `node` of `nodes`."""
    return users[node::nodes]


def sample_round(
    users: UserIndices, fraction: float, seed: int, stage: str, server_round: int
) -> UserIndices:
    """The users that train in a round, ascending; it depends on no node."""
    generator = np.random.default_rng([seed, zlib.crc32(stage.encode()), server_round])
    size = max(1, round(fraction * len(users)))
    return np.sort(generator.choice(np.sort(users), size=size, replace=False))
