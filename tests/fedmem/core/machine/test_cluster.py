"""Finding a Ray cluster, and what Flower is given about it."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from fedmem.core.errors import FedmemError
from fedmem.core.machine.children import search_path
from fedmem.core.machine.cluster import backend_config, joined, survey
from fedmem.core.machine.placement import Placement, this_machine
from fedmem.core.machine.workers import RESTARTS

PLACEMENT = Placement(workers=3, nodes=3, cpus=2, gpus=0.3333, threads=2, device="cuda")


def test_without_an_address_there_is_this_machine() -> None:
    assert survey(None) == [this_machine()]


def test_an_address_that_nobody_answers_at_is_refused_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(FedmemError, match=rf"ray_address={address}: .*ray start") as caught:
            survey(address)
    assert len(str(caught.value).splitlines()) == 1


def test_flower_is_given_what_the_workers_take() -> None:
    assert backend_config(PLACEMENT)["client_resources"] == {
        "num_cpus": 2,
        "num_gpus": 0.3333,
        "max_restarts": RESTARTS,
        "max_task_retries": RESTARTS,
    }


def test_a_cluster_is_not_given_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr("ray.init", lambda **given: asked.update(given))
    with joined("10.0.0.1:6379"):
        assert asked["address"] == "10.0.0.1:6379"
    assert not {"num_cpus", "num_gpus"} & set(asked)
    assert asked["runtime_env"]["env_vars"]["PYTHONPATH"] == search_path()
