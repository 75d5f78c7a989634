"""Bare PyTorch: the same training without any federation, in one process with all cores.

`batched`: all users of a round as one batch, in micro-batches of windows sorted by length, which
one local step of SGD allows. `loop`: user by user, which several local steps, or clipping, need.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from sasrec import SASRec, mean_loss
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from work import Clock, Work

POSITIONS = 2048
"""Of a micro-batch, as fedmem's on a CPU."""


def batched(model: SASRec, users: list[tuple[Tensor, Tensor]]) -> float:
    """Leave the gradient of the mean loss over all targets in `.grad`; that loss."""
    rows = [
        (i, t[t > 0]) for inputs, targets in users for i, t in zip(inputs, targets, strict=True)
    ]
    rows.sort(key=lambda row: len(row[1]))
    count, total = sum(len(targets) for _, targets in rows), 0.0
    while rows:
        longest = len(rows[-1][1])
        chunk, rows = rows[-max(1, POSITIONS // longest) :], rows[: -max(1, POSITIONS // longest)]
        inputs = pad_sequence([i[: len(t)] for i, t in chunk], batch_first=True)
        targets = pad_sequence([t for _, t in chunk], batch_first=True)
        loss = model.cross_entropy(inputs, targets) / count
        loss.backward()
        total += float(loss.detach())
    return total


def loop(model: SASRec, users: list[tuple[Tensor, Tensor]], rate: float) -> float:
    """The same from each user's own change."""
    parameters = list(model.parameters())
    change = [torch.zeros_like(parameter) for parameter in parameters]
    total, weight = 0.0, 0
    for user in users:
        loss, count = mean_loss(model, *user)
        gradients = torch.autograd.grad(loss, parameters)
        for own, gradient in zip(change, gradients, strict=True):
            own.add_(gradient, alpha=rate * count)
        total, weight = total + float(loss.detach()) * count, weight + count
    for parameter, own in zip(parameters, change, strict=True):
        parameter.grad = own / weight
    return total / weight


def main() -> None:
    """Train."""
    work, how = Work.read(Path(sys.argv[1])), sys.argv[2]
    torch.set_num_threads(work.settings["processes"])
    model = work.model()
    adam, clock = work.adam(model), Clock()
    for users in work.rounds:
        windows = [work.windows[user] for user in users]
        adam.zero_grad(set_to_none=True)
        if how == "loop":
            loss = loop(model, windows, work.settings["learning_rate"])
        else:
            loss = batched(model, windows)
        adam.step()
        clock.round(loss)


if __name__ == "__main__":
    main()
