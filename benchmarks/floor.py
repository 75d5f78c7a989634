"""The floor: the same training in bare PyTorch, one process, all cores, no federation.

Stage 1 is written from nothing but torch: the SASRec of `peer_systems`, with torch's own dropout
and random numbers, trained on the mean loss over the targets of the round's users, in micro-batches
of rows sorted by length, with a step of torch's fused Adam. Stages 2 and 3 have an arithmetic that
nobody else has written: there it is fedmem's own, `train_cohort`, in one process, with the same
Adam. What a federation adds to either is everything else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from peer_systems.sasrec import SASRec
from systems import Start, fill_memories
from torch import nn

from fedmem.core.arrays import UserIndices, by_length
from fedmem.core.data import Windows
from fedmem.core.data.sampling import participants, sample_round
from fedmem.core.machine.device import positions_at_once
from fedmem.core.model.parameters import submodule
from fedmem.core.node import Node
from fedmem.core.settings import ModelSettings, Settings
from fedmem.core.stages import Stage
from fedmem.core.training.batches import RoundKey
from fedmem.core.updates.cohort import train_cohort

TrainRound = Callable[[UserIndices, int], None]


def sizes_of(model: ModelSettings) -> dict[str, Any]:
    """What a `SASRec` takes beside the number of items."""
    names = ("max_length", "dim", "heads", "blocks", "feedforward", "dropout")
    return {name: getattr(model, name) for name in names}


def bare_gradient(model: SASRec, windows: Windows, users: UserIndices, positions: int) -> None:
    """Leave the gradient of the mean cross-entropy over the users' targets in `.grad`."""
    rows = np.flatnonzero(np.isin(windows.user, users))
    count = int(windows.lengths[rows].sum())
    model.zero_grad(set_to_none=True)
    for chunk in by_length(windows.lengths[rows], positions):
        inputs = torch.from_numpy(windows.inputs(rows[chunk])).long()  # [B, T]
        targets = torch.from_numpy(windows.targets(rows[chunk])).long()
        loss = model.cross_entropy(inputs, targets) / count
        loss.backward()  # type: ignore[no-untyped-call]


def bare_pytorch(settings: Settings, node: Node, start: Start) -> TrainRound:
    """Rounds of stage 1, in torch alone."""
    model = SASRec(node.interactions.num_items, **sizes_of(settings.model))
    model.load_state_dict(submodule(start.parameters, "sasrec"))
    adam = make_adam(settings, list(model.parameters()))
    positions = positions_at_once(settings.client.micro_batch, torch.device("cpu"))

    def train_round(users: UserIndices, _: int) -> None:
        bare_gradient(model, node.windows, users, positions)
        adam.step()

    return train_round


def own_arithmetic(settings: Settings, stage: Stage, node: Node, start: Start) -> TrainRound:
    """Rounds of any stage, by fedmem's trainer in this process."""
    model = node.load(stage, start.parameters, "frozen")
    fill_memories(node, stage, start.threshold)
    scope = {name: p for name, p in model.named_parameters() if stage.in_scope(name)}
    adam = make_adam(settings, list(scope.values()))

    def train_round(users: UserIndices, server_round: int) -> None:
        key = RoundKey(settings.seed, stage.name, server_round)
        update = train_cohort(node.trainer(stage), users, key)
        for name, parameter in scope.items():
            parameter.grad = -update.change[name]
        adam.step()

    return train_round


def make_adam(settings: Settings, parameters: list[nn.Parameter]) -> torch.optim.Adam:
    """Torch's fastest Adam, with the server's rates."""
    server = settings.strategy
    betas = (server.beta_1, server.beta_2)
    return torch.optim.Adam(parameters, server.learning_rate, betas, server.epsilon, fused=True)


def floor_rounds(settings: Settings, stage: Stage, rounds: int) -> list[float]:
    """Seconds of the rounds after the first."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    node = Node(settings)
    start = Start.of(settings, stage, node)
    everyone = participants(settings)
    if stage.content:
        train_round = own_arithmetic(settings, stage, node, start)
    else:
        train_round = bare_pytorch(settings, node, start)
    seconds = []
    for server_round in range(1, rounds + 2):
        fraction, seed = settings.federation.fraction, settings.seed
        users = sample_round(everyone, fraction, seed, stage.name, server_round)
        started = time.perf_counter()
        train_round(users, server_round)
        seconds.append(time.perf_counter() - started)
    return seconds[1:]
