"""What a node's own configuration makes of the settings that travel, and who lives there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings
from fedmem.federation.node_config import ConfigValue
from fedmem.federation.node_settings import settle_here, users_here
from tests.helpers.small_world import NUM_USERS

MakeSettings = Callable[..., Settings]
HOME: dict[str, ConfigValue] = {"data": "/srv/shop", "state-dir": "/var/lib/fedmem"}


def test_a_simulated_node_takes_the_settings_as_they_come(settings: Settings) -> None:
    assert settle_here(settings, {"partition-id": 0, "num-partitions": 2}) is settings


def test_paths_and_hardware_are_the_nodes_own(settings: Settings) -> None:
    here = settle_here(settings, {**HOME, "users": "0", "device": "cpu", "threads": 3})
    assert (here.data.dir, here.data.path) == ("/srv/shop", settings.data.path)
    assert here.output_dir == "/var/lib/fedmem"
    assert (here.simulation.device, here.simulation.threads) == ("cpu", 3)
    assert here.model is settings.model


def test_data_may_be_a_file(settings: Settings, data_dir: Path) -> None:
    here = settle_here(settings, {**HOME, "data": str(data_dir / "ratings.dat"), "first-index": 5})
    assert (here.data.dir, here.data.path) == (str(data_dir), "ratings.dat")
    assert here.data.first_index == 5


def users(settings: Settings, data_dir: Path, **config: ConfigValue) -> list[int]:
    told = {key.replace("_", "-"): value for key, value in config.items()}
    told |= {"data": str(data_dir), "state-dir": "state"}
    return users_here(settle_here(settings, told), told).tolist()


def test_every_way_to_say_who_lives_here(settings: Settings, data_dir: Path) -> None:
    assert users(settings, data_dir, users="0-2, 7,1") == [0, 1, 2, 7]
    parts = [users(settings, data_dir, partition_id=i, num_partitions=3) for i in range(3)]
    assert np.sort(np.concatenate(parts)).tolist() == list(range(NUM_USERS))
    own = users(settings, data_dir, first_index=100)
    assert own == list(range(100, 100 + NUM_USERS))


def test_only_users_who_take_part_live_anywhere(
    make_settings: MakeSettings, data_dir: Path
) -> None:
    settings = make_settings("federation.num_clients=10")
    parts = [users(settings, data_dir, partition_id=i, num_partitions=2) for i in range(2)]
    everybody = np.sort(np.concatenate(parts)).tolist()
    assert users(settings, data_dir, users=f"0-{NUM_USERS - 1}") == everybody
    assert len(everybody) == 10
    with pytest.raises(FedmemError, match=r"federation\.num_clients .* leave it null"):
        users(settings, data_dir, first_index=0)


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        ({}, "in one way"),
        ({"users": "0", "first_index": 0}, "in one way"),
        ({"partition_id": 0}, "in one way"),
        ({"partition_id": 3, "num_partitions": 3}, "partition-id=3 is not one of 3"),
        ({"users": "3-1"}, 'users="3-1" must be indices'),
        ({"users": "a"}, 'users="a" must be indices'),
        ({"users": f"0-{NUM_USERS}"}, f"below {NUM_USERS}"),
        ({"user": "0"}, "user is unknown; there are data, state-dir"),
        ({"users": "0", "min_members": 1}, "min-members=1 must be a whole number from 2"),
        ({"users": "0", "min_members": "3"}, "min-members=3 must be a whole number from 2"),
        ({"users": "0", "max_epsilon": 0}, "max-epsilon=0 must be a number above 0, below inf"),
        ({"users": "0", "max_epsilon": "8"}, "max-epsilon=8 must be a number above 0, below inf"),
        ({"users": "0", "max_delta": 1.0}, "max-delta=1.0 must be a number above 0, below 1"),
    ],
)
def test_mistakes_are_named(
    config: dict[str, ConfigValue], wrong: str, settings: Settings, data_dir: Path
) -> None:
    with pytest.raises(FedmemError, match=wrong):
        users(settings, data_dir, **config)


def test_data_and_state_must_be_given(settings: Settings) -> None:
    with pytest.raises(FedmemError, match='data is missing: give data="/a/path"'):
        settle_here(settings, {"users": "0"})
