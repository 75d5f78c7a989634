"""Where a node lives: its own data, folders and hardware, laid over the settings that travel.

The server sends its settings with every task. What they say of paths and hardware is true at the
server only; a node of a real federation says what is true where it lives, see
`fedmem/federation/node_config.py`. A simulated node has nothing but a partition.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedmem.core.arrays import UserIndices
from fedmem.core.data import Histories, load_histories
from fedmem.core.data.cold import histories_of_files
from fedmem.core.data.forgotten import FILE as FORGOTTEN
from fedmem.core.data.homes import share_out, work_by_round
from fedmem.core.data.sampling import participants, targets_in_windows
from fedmem.core.errors import FedmemError
from fedmem.core.files.home import at_home
from fedmem.core.settings import Settings
from fedmem.federation.node_config import PARTITION, NodeConfig, is_simulated, require_whole

WAYS = "users, partition-id with num-partitions, or first-index"


def settle_here(settings: Settings, node_config: NodeConfig) -> Settings:
    """The settings as they are true at this node.

    Raises:
        FedmemError: the node's configuration has an unknown key, lacks one or contradicts itself.
    """
    if is_simulated(node_config):
        return settings
    require_whole(node_config)
    node_config = {key: at_home(v) if isinstance(v, str) else v for key, v in node_config.items()}
    path = Path(str(node_config["data"]))
    data = replace(settings.data, dir=str(path))
    if path.is_file():
        data = replace(data, dir=str(path.parent), path=path.name)
    if "catalogue" in node_config:
        # Absolute, so that it need not lie in the data folder.
        data = replace(data, catalogue_file=str(Path(str(node_config["catalogue"])).absolute()))
    if "first-index" in node_config:
        data = replace(data, first_index=int(node_config["first-index"]))
    kept = str(Path(str(node_config["state-dir"]), FORGOTTEN).absolute())
    data = replace(data, forgotten_file=kept)  # the data may be there to be read alone
    hardware = settings.simulation
    return replace(
        settings,
        data=data,
        output_dir=str(node_config["state-dir"]),
        simulation=replace(
            hardware,
            device=str(node_config.get("device", hardware.device)),
            threads=int(node_config.get("threads", hardware.threads)),
        ),
    )


def users_here(settings: Settings, node_config: NodeConfig) -> UserIndices:
    """Indices of the users that take part at this node, ascending: `residents`, less those who had
    too much forgotten for it. It raises the same.
    """
    complete = load_histories(settings).warm.complete
    return np.intersect1d(residents(settings, node_config), complete)


def residents(settings: Settings, node_config: NodeConfig) -> UserIndices:
    """Indices of the users that live at this node, ascending, whatever was forgotten.

    Args:
        settings: as `settle_here` gave them.
        node_config: of this node.

    Raises:
        FedmemError: the node's configuration names users in more than one way, or none.
    """
    shared = "users" in node_config
    partition = set(PARTITION) & set(node_config)
    if shared + bool(partition) + ("first-index" in node_config) != 1 or len(partition) == 1:
        raise FedmemError(f"node-config: say which users live here in one way: {WAYS}.")
    if partition:
        index, nodes = (int(node_config[key]) for key in PARTITION)
        if not 0 <= index < nodes:
            raise FedmemError(f"node-config: partition-id={index} is not one of {nodes} from 0.")
        return _homes(settings.to_json(), nodes)[index]
    histories = _of_files(settings)
    if shared:
        named = _parse_ranges(str(node_config["users"]), histories.warm.num_users)
        return np.intersect1d(named, participants(settings, histories))
    if settings.federation.num_clients is not None:
        raise FedmemError(
            "federation.num_clients chooses among users of one data set: leave it null where nodes "
            "have data of their own."
        )
    return histories.warm.complete


def _of_files(settings: Settings) -> Histories:
    return histories_of_files(settings.data, settings.evaluation.cold_items, settings.seed)


def _parse_ranges(text: str, num_users: int) -> UserIndices:
    """`0-99,150` as indices."""
    parts = [re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip()) for part in text.split(",")]
    bounds = [(int(part[1]), int(part[2] or part[1])) for part in parts if part]
    if len(bounds) < len(parts) or not all(a <= b < num_users for a, b in bounds):
        raise FedmemError(
            f'node-config: users="{text}" must be indices such as "0-99,150", below {num_users}.'
        )
    return np.unique(np.concatenate([np.arange(a, b + 1) for a, b in bounds]))


@functools.lru_cache(maxsize=1)
def _homes(settings_json: str, nodes: int) -> list[UserIndices]:
    """The users of every node: each process finds them by itself, and all find the same.

    So they are those of the files: nobody moves when something is forgotten.
    """
    settings = Settings.from_json(settings_json)
    histories = _of_files(settings)
    users = participants(settings, histories)
    if nodes == 1:
        return [users]
    targets = targets_in_windows(settings, histories.warm, users)
    return share_out(users, work_by_round(settings, users, targets), nodes)
