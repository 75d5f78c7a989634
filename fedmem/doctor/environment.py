"""Versions, cores, trackers, Ray and the GPU."""

from __future__ import annotations

import importlib
import os
import platform
from dataclasses import asdict
from importlib import metadata

import torch
from packaging.requirements import Requirement

from fedmem.core.machine.device import local_gpus, resolve_device
from fedmem.core.machine.precision import check_precision
from fedmem.doctor.case import Case
from fedmem.doctor.finding import Finding, check, ok, problem, warn_if
from fedmem.runs.tracking import require_installed

SHOWN = ("flwr", "ray", "torch", "numpy", "hydra-core")


@check("versions")
def versions(_: Case) -> Finding:
    """Python and the packages that fedmem asks for.

    Problem: one is missing, or of a version that fedmem does not work with.
    """
    wrong = []
    for text in metadata.requires("fedmem") or []:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        try:
            found = metadata.version(wanted.name)
            if not wanted.specifier.contains(found, prereleases=True):
                wrong.append(f"{wanted.name} {found}, and {wanted.specifier} is needed")
        except metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
    if wrong:
        return problem("; ".join(wrong), "install fedmem again: make setup")
    listed = ", ".join(f"{name} {metadata.version(name)}" for name in SHOWN)
    return ok(f"Python {platform.python_version()}, {listed}")


@check("threads")
def threads(case: Case) -> Finding:
    """Workers and their threads, against the cores.

    Warning: more threads than cores; they wait for each other.
    Problem: more workers than there is room for.
    """
    placement, cores = case.placement, len(os.sched_getaffinity(0))
    here = case.settings.simulation.ray_address is None
    many = here and placement.workers * placement.threads > cores
    figure = f"{placement.workers} workers of {placement.threads} threads on {cores} cores"
    return warn_if(many, figure, "set simulation.threads=0.")


@check("trackers", quick=True)
def trackers(case: Case) -> Finding:
    """The trackers that `tracking` asks for.

    Problem: `tracking.mlflow`, and MLflow is not installed.
    """
    require_installed(case.settings.tracking)
    asked = [name for name, value in asdict(case.settings.tracking).items() if value]
    return ok(", ".join(asked) or "none")


@check("Ray")
def ray(case: Case) -> Finding:
    """The cluster at `simulation.ray_address` answers, where there is to be one.

    Problem: Ray cannot be imported, or no cluster answers in 30 seconds.
    """
    address = case.settings.simulation.ray_address
    if address is None:
        return ok("not needed: the workers are processes of the run")
    try:
        importlib.import_module("ray")
    except ImportError as error:
        return problem(f"Ray cannot be imported: {error}", "install fedmem again.")
    return ok(f"the cluster at {address} answers: room for {case.placement.workers} workers")


@check("GPU")
def gpu(case: Case) -> Finding:
    """The device of `simulation.device`, and whether it has `client.precision`.

    Problem: CUDA is asked for and finds no GPU, or bfloat16 where it would only be imitated.
    """
    wanted = case.settings.simulation.device
    device = resolve_device(wanted, local_gpus())
    check_precision(case.settings.client.precision, torch.device(device))
    return ok(f"simulation.device={wanted}: {device}, {local_gpus()} GPUs")
