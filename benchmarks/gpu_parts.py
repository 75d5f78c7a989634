"""What a round of stage 1 is made of on a GPU, each part by itself and waited for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from common import middle
from systems import Start

from fedmem.core.arrays import by_length
from fedmem.core.data.sampling import participants, sample_round
from fedmem.core.machine.device import positions_at_once
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import PRETRAIN_SASREC
from fedmem.core.training.batches import BatchMaker, RoundKey
from fedmem.core.training.objective import Objective
from fedmem.core.updates.cohort import train_cohort
from fedmem.messaging.messages import update_from_record, update_to_record
from strategies.server_optimizer import ServerOptimizer

ROUNDS = 10


@dataclass(frozen=True)
class Parts:
    """Seconds of a round, medians.

    The first five are each waited for; `training` is that of a round in one process, the first two
    without waiting in between.
    """

    windows: float
    arithmetic: float
    load: float
    reply: float
    server: float
    training: float


def measure_parts(settings: Settings) -> Parts:
    """Measure them in this process, on the settings' device."""
    stage, node = PRETRAIN_SASREC, Node(settings)
    start = Start.of(settings, stage, node).parameters
    model, device, server = (
        node.load(stage, start, ""),
        node.device,
        ServerOptimizer(settings.strategy),
    )
    objective, windows, everyone = Objective(model, settings), node.windows, participants(settings)
    lengths = windows.lengths
    maker = BatchMaker(settings, stage, windows, model.sasrec.dropout_widths, device=device)
    at_once = positions_at_once(settings.client.micro_batch, device)
    seconds: dict[str, list[float]] = {name: [] for name in Parts.__dataclass_fields__}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        _wait(device)
        began = time.perf_counter()
        yield
        _wait(device)
        seconds[name].append(time.perf_counter() - began)

    for server_round in range(1, ROUNDS + 2):
        key = RoundKey(settings.seed, stage.name, server_round)
        fraction = settings.federation.fraction
        users = sample_round(everyone, fraction, settings.seed, stage.name, server_round)
        rows = np.flatnonzero(np.isin(windows.user, users))
        with timed("windows"):
            made = [maker.make(rows[own], key, 0) for own in by_length(lengths[rows], at_once)]
        with timed("arithmetic"):
            model.zero_grad(set_to_none=True)
            for batch in made:
                objective(batch).backward()
        with timed("training"):
            update = train_cohort(node.trainer(stage), users, key)
        with timed("reply"):
            record = update_to_record(update)
        with timed("server"):
            start = server.step(start, update_from_record(record).change)
        with timed("load"):
            node.load(stage, start, "")
    return Parts(**{name: middle(taken[1:]) for name, taken in seconds.items()})


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
