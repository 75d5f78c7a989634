"""`python -m fedmem.core.machine.ray_probe ADDRESS`: what a Ray cluster has, as a line of JSON.

A program of its own that imports little: see `fedmem.core.machine.cluster.survey`.
"""

from __future__ import annotations

import json
import logging
import sys

import ray

if __name__ == "__main__":
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
    machines = ray.nodes()  # type: ignore[no-untyped-call]
    resources = [machine["Resources"] for machine in machines if machine["Alive"]]
    sys.stdout.write(json.dumps(resources) + "\n")
