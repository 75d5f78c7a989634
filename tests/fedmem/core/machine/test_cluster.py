"""Finding a Ray cluster, and what Flower is given about it."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from typing import Any

import pytest

from fedmem.core.errors import FedmemError
from fedmem.core.machine.children import search_path
from fedmem.core.machine.cluster import WORKER_RESTARTS, backend_config, ray_of, survey
from fedmem.core.machine.placement import Placement, this_machine

PRELOAD = "RAY_preload_python_modules"
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


def asked_for(
    address: str | None, monkeypatch: pytest.MonkeyPatch, placement: Placement = PLACEMENT
) -> dict[str, Any]:
    """What Ray is asked for."""
    asked: dict[str, Any] = {}

    def init(**given: Any) -> None:
        asked.update(given, path=os.environ.get("PYTHONPATH"), ahead=os.environ.get(PRELOAD))

    monkeypatch.setattr("ray.init", init)
    with ray_of(address, placement, "fedmem.core"):
        return asked


def test_a_ray_of_the_runs_own_has_what_the_workers_take(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backend_config(PLACEMENT)["client_resources"] == {
        "num_cpus": 2,
        "num_gpus": 0.3333,
        "max_restarts": WORKER_RESTARTS,
        "max_task_retries": WORKER_RESTARTS,
    }
    init = asked_for(None, monkeypatch)
    assert (init["num_cpus"], init["num_gpus"]) == (6, 1)
    assert init["address"] == "local"  # whatever RAY_ADDRESS says
    assert "runtime_env" not in init  # for which Ray would start workers beside those it has
    assert init["path"] == search_path() != os.environ.get("PYTHONPATH")
    assert init["ahead"] is None  # by six workers, where three will be used
    init = asked_for(None, monkeypatch, replace(PLACEMENT, cpus=1))
    assert (init["num_cpus"], init["ahead"]) == (3, "fedmem.core")
    assert PRELOAD not in os.environ


def test_a_cluster_is_not_given_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    init = asked_for("10.0.0.1:6379", monkeypatch)
    assert init["address"] == "10.0.0.1:6379"
    assert not {"num_cpus", "num_gpus"} & set(init)
    assert init["runtime_env"]["env_vars"]["PYTHONPATH"] == search_path()
