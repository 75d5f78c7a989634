"""What a node of a real federation says of itself, by its `--node-config`.


    data="/srv/shop"            folder, or file of interactions; files as conf/data/ names them
    state-dir="/var/lib/fedmem" what it keeps: its users' memories, the frozen rest of a model
    users="0-99"                these users of data that nodes share, by index
    partition-id=0 num-partitions=3   or a part of them, as a simulation shares them out
    first-index=1000            or all users of data of its own, counted from here
    catalogue="/srv/items.txt"  the federation's items, an id a line, where each node has seen some
    device="cpu" threads=4      as in conf/simulation/
    min-members=3               answer under masks only, in sums of at least so many nodes
    max-epsilon=8 max-delta=1e-5   release no more of its users, ever: see docs/privacy.md

Kept apart from what is made of it, so that a SuperNode can look at it without loading torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from click import ClickException

from fedmem.core.errors import FedmemError
from fedmem.messaging.flower_internals import parse_node_config

ConfigValue = bool | int | float | str
NodeConfig = Mapping[str, ConfigValue]

PARTITION = ("partition-id", "num-partitions")
MIN_MEMBERS, MAX_EPSILON, MAX_DELTA = "min-members", "max-epsilon", "max-delta"
USUAL_DELTA = 1e-5
"""`max-delta` where there is a `max-epsilon` and it says nothing else."""
KEYS = (
    "data", "state-dir", "users", *PARTITION, "first-index", "catalogue", "device", "threads",
    MIN_MEMBERS, MAX_EPSILON, MAX_DELTA,
)  # fmt: skip


def read_node_config(given: str) -> dict[str, ConfigValue]:
    """What `--node-config` says: a TOML file, or settings as key=value.

    Raises:
        FedmemError: it is neither.
    """
    try:
        return dict(parse_node_config([given] if given else None))
    except OSError as error:
        raise FedmemError(f"{given} cannot be read: {error.strerror}.") from error
    except (ClickException, ValueError) as error:
        raise FedmemError(
            f"node-config: {given} is neither a TOML file nor settings such as "
            'data="/srv/shop" threads=2.'
        ) from error


def is_simulated(node_config: NodeConfig) -> bool:
    """Whether a node is one of Flower's simulation, which has nothing but a partition."""
    return set(node_config) <= set(PARTITION)


def require_whole(node_config: NodeConfig) -> None:
    """Check the keys of a real node's configuration.

    Raises:
        FedmemError: one is unknown, data or state-dir are missing, or a minimum is none.
    """
    unknown = sorted(set(node_config) - set(KEYS))
    if unknown:
        raise FedmemError(f"node-config: {unknown[0]} is unknown; there are {', '.join(KEYS)}.")
    for key in ("data", "state-dir"):
        if key not in node_config:
            raise FedmemError(f'node-config: {key} is missing: give {key}="/a/path".')
    fewest = node_config.get(MIN_MEMBERS, 2)
    if type(fewest) is not int or fewest < 2:
        raise FedmemError(f"node-config: {MIN_MEMBERS}={fewest} must be a whole number from 2.")
    for key, most in ((MAX_EPSILON, math.inf), (MAX_DELTA, 1)):
        limit = node_config.get(key, USUAL_DELTA)
        if isinstance(limit, bool | str) or not 0 < limit < most:
            raise FedmemError(f"node-config: {key}={limit} must be a number above 0, below {most}.")
