"""A node's update as integers to be summed, and the sum of them as an update again.

The weight, the counts and the loss are summed in the same vector, so that of a single node none of
them is seen either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from fedmem.core.errors import FedmemError
from fedmem.core.secure_sum.codes import (
    counts_length,
    decode,
    decode_counts,
    encode,
    encode_counts,
)
from fedmem.core.secure_sum.keys import Integers
from fedmem.core.updates.update import Update

COUNTS = ["targets", "users", "left out", "loss", "cut"]
LOSS_UNIT = 2.0**-16
"""Of the loss, summed over targets."""
Shapes = Mapping[str, tuple[int, ...]]


def encode_update(
    update: Update,
    levels: float,
    bits: int,
    parties: int,
    generator: np.random.Generator,
    noise: npt.NDArray[np.int64] | None = None,
) -> Integers:
    """An update as [N] integers: its change times its weight, and its counts.

    Args:
        update: a node's.
        levels: integers per unit of (change · targets).
        bits: of the modulus.
        parties: nodes of the sum.
        generator: for the rounding.
        noise: integers to add to those of the change, as many; it may wrap around.

    Raises:
        FedmemError: the change or the loss is not finite.
    """
    changes = [update.change[name].detach().cpu().flatten() for name in sorted(update.change)]
    values = torch.cat(changes).double().numpy() * update.weight
    integers, cut = encode(values, levels, bits, parties, generator)
    if noise is not None:
        integers = integers + noise.astype(integers.dtype)
    if not math.isfinite(update.loss):
        raise FedmemError("The loss is not finite; nothing was sent.")
    loss = round(update.loss * update.weight / LOSS_UNIT)
    counts = (update.weight, update.users, update.left_out, loss, cut)
    named = dict(zip(COUNTS, counts, strict=True))
    return np.concatenate([integers, encode_counts(named, bits)])


def length(shapes: Shapes, bits: int) -> int:
    """Integers of an update whose change has these shapes."""
    return sum(map(math.prod, shapes.values())) + counts_length(len(COUNTS), bits)


def decode_update(integers: Integers, levels: float, shapes: Shapes) -> tuple[Update, int]:
    """(the mean update, how many numbers were cut) from the sum of nodes' integers [N]."""
    size = sum(map(math.prod, shapes.values()))
    counts = decode_counts(integers[size:], COUNTS)
    weight = counts["targets"]
    values = torch.from_numpy(decode(integers[:size], levels) / max(weight, 1)).float()
    names = sorted(shapes)
    parts = torch.split(values, [math.prod(shapes[name]) for name in names])
    change = {name: part.reshape(shapes[name]) for name, part in zip(names, parts, strict=True)}
    loss = counts["loss"] * LOSS_UNIT / max(weight, 1)
    update = Update(change, weight, loss, counts["users"], counts["left out"])
    return update, counts["cut"]
