"""Who takes part: the users of a run, the nodes that they live at, and the sample of a round."""

from __future__ import annotations

import heapq
import zlib

import numpy as np
import numpy.typing as npt

from fedmem.core.errors import FedmemError
from fedmem.core.settings import FederationSettings, Settings

UserIndices = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]

RANKING_COST = 10.0  # measured in stage 1: 3 (short histories) to 15 targets, on both MovieLens


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


def expected_work(settings: Settings, lengths: npt.NDArray[np.integer]) -> Floats:
    """Work [U] that each user causes in a round on average, in targets trained.

    Training a user costs as many as its windows hold, ranking one about `RANKING_COST`; the first
    befalls a share of the users in every round, the second everybody when it is time.

    Args:
        settings: of the run.
        lengths: [U] interactions of each user.
    """
    held = settings.client.windows * settings.model.max_length
    # Two interactions are held out, and the first is only an input.
    targets = np.clip(lengths - 3, 0, held)
    federation = settings.federation
    work: Floats = federation.fraction * targets + RANKING_COST / federation.evaluate_every
    return work


def share_out(users: UserIndices, work: Floats, nodes: int) -> list[UserIndices]:
    """The users that live at each simulated node, ascending, so that all have the like to do.

    The longest goes first, each to the node that has the least so far; ties go by order. So every
    process finds the same, and the busiest node has at most a third more than in the best sharing.

    Args:
        users: [U] user indices.
        work: [U] what each causes.
        nodes: how many share them.
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
