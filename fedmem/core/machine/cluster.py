"""Ray: one that is started for a run, or a cluster that is already there and that a run joins."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import ray

from fedmem.core.errors import FedmemError
from fedmem.core.machine.children import environment, search_path
from fedmem.core.machine.placement import Machine, Placement, this_machine
from fedmem.core.machine.ray_trouble import trouble

ANSWER_SECONDS = 30
WORKER_RESTARTS = 3
"""Times that Ray starts a worker again that has died, before the run ends."""


def survey(address: str | None) -> list[Machine]:
    """The machines of the Ray cluster at an address; None: this machine.

    Ray waits for minutes where nobody answers, and then ends the process. So a process of its own
    asks, with less patience.

    Raises:
        FedmemError: no cluster answers that could be joined from here.
    """
    if address is None:
        return [this_machine()]
    try:
        asked = subprocess.run(
            [sys.executable, "-m", "fedmem.core.machine.ray_probe", address],
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=True,
            env=environment(RAY_gcs_rpc_server_reconnect_timeout_s="3"),
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise FedmemError(
            f"No cluster of Ray {ray.__version__} answers at simulation.ray_address={address}: "
            "start one with `ray start --head`, or set simulation.ray_address=null."
        ) from error
    found = json.loads(asked.stdout.splitlines()[-1])
    return [Machine(int(each.get("CPU", 0)), int(each.get("GPU", 0))) for each in found]


@contextlib.contextmanager
def ray_of(address: str | None, placement: Placement, worked_by: str) -> Iterator[None]:
    """A Ray for a run, which Flower finds running: a new one, or a cluster that is joined.

    It is left at the end: one that was started ends with it, a cluster goes on. Where Flower starts
    it, what Ray says of a failure comes with a hundred lines of others.

    Args:
        address: of the cluster; None: a new Ray.
        placement: of the workers.
        worked_by: the module whose code the workers run, for those of a new Ray to import at once.

    Raises:
        FedmemError: it does not start; the message has what helps.
    """
    finds = {"PYTHONPATH": search_path()}  # the workers, what we find
    ahead = {"RAY_preload_python_modules": worked_by}
    if address is None:
        size = math.ceil(placement.workers * placement.gpus)
        asked: dict[str, Any] = {"num_cpus": placement.workers * placement.cpus, "num_gpus": size}
    else:
        asked = {"runtime_env": {"env_vars": finds}}
    try:
        try:
            # Workers would import what lies in the folder that we are in. Those of a new Ray, which
            # inherit what it finds, need no environment for which Ray would start others. It starts
            # one for each core at once: where that is more than we use, they import later.
            own = {} if address else finds | (ahead if placement.cpus == 1 else {})
            with contextlib.chdir("/"), _added_to_environment(own):
                ray.init(
                    # Never left out: Ray would join any cluster that this machine is part of.
                    address=address or "local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    ignore_reinit_error=True,  # a program may have started one
                    **asked,
                )
        except Exception as error:
            raise trouble(error) from error
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _added_to_environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def backend_config(placement: Placement) -> dict[str, Any]:
    """Flower's settings of its Ray backend, which fills all that Ray has with workers."""
    return {
        # Flower hands these on to Ray's actors. A message that met the end of its worker is handled
        # again by the next, to the same result: what a node does depends on the message alone.
        "client_resources": {
            "num_cpus": placement.cpus,
            "num_gpus": placement.gpus,
            "max_restarts": WORKER_RESTARTS,
            "max_task_retries": WORKER_RESTARTS,
        },
    }
