"""A Ray cluster that is already there and that a run joins.

Ray is imported where it is called: a run on this machine does without it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from fedmem.core.errors import FedmemError
from fedmem.core.machine.children import environment, search_path
from fedmem.core.machine.placement import Machine, Placement, this_machine
from fedmem.core.machine.ray_trouble import trouble
from fedmem.core.machine.workers import RESTARTS

ANSWER_SECONDS = 30


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
            f"No cluster of Ray {version('ray')} answers at simulation.ray_address={address}: "
            "start one with `ray start --head`, or set simulation.ray_address=null."
        ) from error
    found = json.loads(asked.stdout.splitlines()[-1])
    return [Machine(int(each.get("CPU", 0)), int(each.get("GPU", 0))) for each in found]


@contextlib.contextmanager
def joined(address: str) -> Iterator[None]:
    """A Ray cluster that a run joins, and that Flower finds joined; it goes on when it is left.

    Where Flower joins it, what Ray says of a failure comes with a hundred lines of others.

    Raises:
        FedmemError: it cannot be joined; the message has what helps.
    """
    import ray

    finds = {"PYTHONPATH": search_path()}  # the workers, what we find
    try:
        try:
            with contextlib.chdir("/"):  # workers would import what lies in the folder we are in
                ray.init(
                    address=address,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    ignore_reinit_error=True,  # a program may have joined one
                    runtime_env={"env_vars": finds},
                )
        except Exception as error:
            raise trouble(error) from error
        yield
    finally:
        ray.shutdown()


def backend_config(placement: Placement) -> dict[str, Any]:
    """Flower's settings of its Ray backend, which fills all that Ray has with workers."""
    return {
        # Flower hands these on to Ray's actors. A message that met the end of its worker is handled
        # again by the next, to the same result: what a node does depends on the message alone.
        "client_resources": {
            "num_cpus": placement.cpus,
            "num_gpus": placement.gpus,
            "max_restarts": RESTARTS,
            "max_task_retries": RESTARTS,
        },
    }
