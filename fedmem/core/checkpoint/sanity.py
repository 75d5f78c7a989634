"""A backbone tried on data: whether it predicts users' items better than a guess.

A table that was never trained, or whose rows belong to other items, does not.
"""

from __future__ import annotations

import numpy as np
import torch

from fedmem.core.data import Interactions, Windows
from fedmem.core.model.backbone import SASRec
from fedmem.core.model.dropout import NO_DROPOUT
from fedmem.core.model.parameters import Parameters, submodule
from fedmem.core.settings import ModelSettings
from fedmem.core.training.losses import cross_entropy_over_items

SAMPLE_USERS = 30
ROWS_AT_ONCE = 16


@torch.no_grad()
def training_loss(
    parameters: Parameters, settings: ModelSettings, interactions: Interactions
) -> float:
    """Mean cross-entropy over all items at the latest training windows of some users.

    A guess has ln(items).

    Args:
        parameters: of any stage, by name; the backbone's are used.
        settings: its sizes.
        interactions: the histories.
    """
    with torch.random.fork_rng(devices=[]):
        model = SASRec(settings, interactions.num_items)
    model.load_state_dict(submodule(parameters, "sasrec"), strict=True)
    generator, count = np.random.default_rng(0), min(SAMPLE_USERS, interactions.num_users)
    users = np.sort(generator.choice(interactions.num_users, count, replace=False))
    windows = Windows.cut(interactions, users, 1, settings.max_length)
    total = 0.0
    for rows in np.array_split(np.arange(len(windows)), -(-len(windows) // ROWS_AT_ONCE)):
        targets = torch.from_numpy(windows.targets(rows)).long()  # [B, T]
        hidden = model(torch.from_numpy(windows.inputs(rows)).long(), NO_DROPOUT)[targets > 0]
        total += float(
            cross_entropy_over_items(hidden, model.item_emb.weight, targets[targets > 0]).sum()
        )
    return total / max(int(windows.lengths.sum()), 1)
