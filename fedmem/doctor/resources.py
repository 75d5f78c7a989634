"""Memory and disk of the run, estimated, against what the machine has free.

The memory follows from the sizes of what is held, with factors that were fitted to the measured
peaks of all processes together, on two workers and several machines, stages 1 to 3, when the
workers were Ray's: 1.9 to 2.1, 2.0 to 2.3 and 2.5 to 2.7 GB (MovieLens-100K), 2.2 to 2.5, 3.0 to
3.3 and 3.6 to 4.2 GB (MovieLens-1M); stage 1 of Amazon Beauty 3.1 GB, of a million made-up users
4.5 GB; on one worker, of a quarter, a half and a whole million items (`transport=coded`) 4.0, 5.8
and 10 GB. What processes hold before any data is less since then, 0.6 GB with two workers: 1.19 GB
in stage 1 and 1.69 in stage 3 of MovieLens-100K.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

from fedmem.core.data.sampling import targets_in_windows
from fedmem.core.evaluation.ranking import SHARED_AT_ONCE
from fedmem.core.machine.device import POSITIONS_AT_ONCE
from fedmem.core.stages import Stage
from fedmem.core.training.losses import SAMPLES_AT_LEAST
from fedmem.core.transport.codec import Codec
from fedmem.core.transport.up import KEPT as REMAINDERS_KEPT
from fedmem.doctor.case import Case
from fedmem.doctor.finding import Finding, check, ok, problem, warn_if
from fedmem.federation.parameter_store import KEPT as SCOPES_KEPT

MB = 1e6
IMPORTS, SERVER, WORKER = 140 * MB, 460 * MB, 230 * MB
"""What workers share, the server's and each worker's own, before any data."""
SERVER_HISTORY, WORKER_HISTORY, MEMORY_HISTORY = 30, 40, 300
"""Bytes an interaction: at the server, in each worker, and there with memories in addition."""
WORKER_BATCH = 900
"""Bytes an interaction of the users that train in a round, in each worker."""
SERVER_COPIES, WORKER_COPIES = 11, 6
"""Copies of the parameters: messages, changes, gradients, moments, the best round."""
SCORE_COPIES = 3
CONTENT_STAGE, MEMORY_STAGE = 80 * MB, 240 * MB
"""Compiled loops and the micro-batches of a worker in a stage with content, and with memory too."""
FLOAT = 4
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_needed(case: Case, stage: Stage) -> float:
    """Bytes of all processes together, at the peak of a stage."""
    settings, items, users = case.settings, case.interactions.num_items, case.users
    model, client = settings.model, settings.client
    parameters = FLOAT * case.counts(stage)[0]
    compared = client.candidates or items
    scores = FLOAT * max(SAMPLES_AT_LEAST * compared, SHARED_AT_ONCE["cpu"], items)
    interactions = int(case.interactions.lengths[users].sum())
    server = SERVER + SERVER_COPIES * parameters + SERVER_HISTORY * interactions
    an_interaction = WORKER_HISTORY + WORKER_BATCH * settings.federation.fraction
    worker = WORKER + WORKER_COPIES * parameters + an_interaction * interactions
    worker += SCORE_COPIES * scores
    ranked = min(len(users), settings.evaluation.users or len(users))
    shared = FLOAT * ranked * settings.evaluation.negatives
    if stage.content:
        targets = int(targets_in_windows(settings, case.interactions, users).sum())
        at_once = client.micro_batch or POSITIONS_AT_ONCE["cpu"]
        worker += MEMORY_STAGE + MEMORY_HISTORY * interactions if stage.memory else CONTENT_STAGE
        worker += FLOAT * (2 * items * sum(case.widths) + at_once * client.negatives)
        shared += FLOAT * targets * (settings.memory.top_k if stage.memory else model.dim)
    return IMPORTS + server + case.placement.workers * worker + shared


def disk_needed(case: Case) -> float:
    """Bytes of all checkpoints, old and new at once, and of the state that a run keeps."""
    counts = map(case.counts, case.stages)
    # Metrics, results and the configuration; then for each stage the parameters and the best of
    # them, two moments, and the last state beside the next one. Where messages are rounded, that
    # has what is owed, too, and nodes keep what the server's steps go from, and their remainders.
    codec, copies = Codec(case.settings.transport), 2 * 4
    if not codec.exact:
        copies += 2 + 3 * SCOPES_KEPT
    if codec.feedback:
        copies += REMAINDERS_KEPT * case.placement.nodes
    return MB + sum(FLOAT * (2 * parameters + copies * trained) for parameters, trained in counts)


def memory_free() -> float:
    """Bytes that this process and its children can still have."""
    free = float(psutil.virtual_memory().available)
    if CGROUP_LIMIT.is_file() and (limit := CGROUP_LIMIT.read_text().strip()).isdigit():
        free = min(free, float(limit))
    return free


@check("memory", quick=True)
def memory(case: Case) -> Finding:
    """Memory of all processes at the peak, estimated, against what is free.

    On a Ray cluster it is not looked at.
    Warning: it takes more than 80%.
    Problem: there is not enough.
    """
    if case.settings.simulation.ray_address is not None:
        return ok("on a Ray cluster: not looked at")
    needed, stage = max((memory_needed(case, stage), stage.name) for stage in case.stages)
    free, workers = memory_free(), case.placement.workers
    figure = f"about {needed / 1e9:.1f} GB with {workers} workers ({stage}), {free / 1e9:.1f} free"
    if needed > free:
        return problem(figure, "set simulation.workers lower, or free memory.")
    advice = "set simulation.workers lower to have more room."
    return warn_if(needed > 0.8 * free, figure, advice)


@check("disk", quick=True)
def disk(case: Case) -> Finding:
    """Room for checkpoints and the run's own files, where they are going to be.

    Warning: less than twice of what is needed.
    Problem: there is not enough, or a folder cannot be written to.
    """
    needed = disk_needed(case)
    settings, figures = case.settings, []
    places = {"checkpoint.dir": settings.checkpoint.dir, "output_dir": settings.output_dir}
    for key, place in places.items():
        path = Path(place).absolute()
        folder = next(each for each in (path, *path.parents) if each.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            return problem(f"{key}={place} cannot be written to", f"point {key} elsewhere.")
        free = shutil.disk_usage(folder).free
        figures.append((free, f"{free / 1e9:.1f} GB free for {key}"))
    least = min(figures)[0]
    text = f"about {needed / MB:.0f} MB; " + ", ".join(figure for _, figure in figures)
    if needed > least:
        return problem(text, "free room, or point checkpoint.dir and hydra.run.dir elsewhere.")
    return warn_if(2 * needed > least, text, "free room.")
