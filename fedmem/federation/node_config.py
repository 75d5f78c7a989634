"""What a node of a real federation says of itself, by its `--node-config`.


    data="/srv/shop"            folder, or file of interactions; files as conf/data/ names them
    state-dir="/var/lib/fedmem" what it keeps: its users' memories, the frozen rest of a model
    users="0-99"                these users of data that nodes share, by index
    partition-id=0 num-partitions=3   or a part of them, as a simulation shares them out
    first-index=1000            or all users of data of its own, counted from here
    catalogue="/srv/items.txt"  the federation's items, an id a line, where each node has seen some
    device="cpu" threads=4      as in conf/simulation/
    min-members=3               answer under masks only, in sums of at least so many nodes

Kept apart from what is made of it, so that a SuperNode can look at it without loading torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedmem.core.errors import FedmemError

ConfigValue = bool | int | float | str
NodeConfig = Mapping[str, ConfigValue]

PARTITION = ("partition-id", "num-partitions")
MIN_MEMBERS = "min-members"
KEYS = (
    "data", "state-dir", "users", *PARTITION, "first-index", "catalogue", "device", "threads",
    MIN_MEMBERS,
)  # fmt: skip


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
