"""The floor: the same training in bare PyTorch, one process, all cores, no federation.

Stage 1 is written here from nothing but torch: a SASRec with torch's own dropout and random
numbers, trained on the mean loss over the targets of the round's users, in micro-batches of rows
sorted by length, with a step of torch's fused Adam. Stages 2 and 3 have an arithmetic that nobody
else has written: there it is fedmem's own, `train_cohort`, in one process, with the
same Adam. What a federation adds to either is everything else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import torch
from systems import Start, fill_memories
from torch import Tensor, nn
from torch.nn import functional as F

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


class Block(nn.Module):
    """Pre-norm causal self-attention and a feed-forward network."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        dim = settings.dim
        self.settings = settings
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, settings.feedforward)
        self.contract = nn.Linear(settings.feedforward, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Rows [B, T, D] to rows of the same shape."""
        batch, length, dim = x.shape
        rate, heads = self.settings.dropout, self.settings.heads
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3, heads, dim // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [B, H, T, D/H]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # [B, H, T, D/H]
        x = x + F.dropout(self.out(mixed.transpose(1, 2).reshape(batch, length, dim)), rate)
        hidden = F.dropout(F.relu(self.expand(self.feedforward_norm(x))), rate)  # [B, T, F]
        return x + F.dropout(self.contract(hidden), rate)


class SASRec(nn.Module):
    """The backbone, with the parameter names of fedmem's so that its parameters load."""

    def __init__(self, settings: ModelSettings, num_items: int) -> None:
        super().__init__()
        self.settings = settings
        self.item_emb = nn.Embedding(num_items + 1, settings.dim, padding_idx=0)
        self.pos_emb = nn.Embedding(settings.max_length, settings.dim)
        self.blocks = nn.Sequential(*(Block(settings) for _ in range(settings.blocks)))
        self.norm = nn.LayerNorm(settings.dim)

    def forward(self, items: Tensor) -> Tensor:
        """Hidden states [B, T, D] of item rows [B, T]."""
        x = self.item_emb(items) * self.settings.dim**0.5 + self.pos_emb.weight[: items.shape[1]]
        return self.norm(self.blocks(F.dropout(x, self.settings.dropout)))  # type: ignore[no-any-return]


def bare_gradient(model: SASRec, windows: Windows, users: UserIndices, positions: int) -> None:
    """Leave the gradient of the mean cross-entropy over the users' targets in `.grad`."""
    rows = np.flatnonzero(np.isin(windows.user, users))
    count = int(windows.lengths[rows].sum())
    model.zero_grad(set_to_none=True)
    for chunk in by_length(windows.lengths[rows], positions):
        inputs = torch.from_numpy(windows.inputs(rows[chunk])).long()  # [B, T]
        targets = torch.from_numpy(windows.targets(rows[chunk])).long()
        real = targets > 0  # [B, T]
        logits = model(inputs)[real] @ model.item_emb.weight[1:].T  # [N, I]
        loss = F.cross_entropy(logits, targets[real] - 1, reduction="sum") / count
        loss.backward()  # type: ignore[no-untyped-call]


def bare_pytorch(settings: Settings, node: Node, start: Start) -> TrainRound:
    """Rounds of stage 1, in torch alone."""
    model = SASRec(settings.model, node.interactions.num_items)
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
