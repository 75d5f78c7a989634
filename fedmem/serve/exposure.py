"""What one upload gives away of a history: the simplest attack, on this user and this model.

In stage 1 the rows of `item_emb` that a user's change moves most are those of the user's items. An
attacker who sees one upload ranks the items by the length of their row's change; nothing else is
needed. The upload is made as a node makes it, through all filters of the run.
"""

from __future__ import annotations

import numpy as np

from fedmem.core.model.parameters import Parameters
from fedmem.core.node import Node
from fedmem.core.privacy.attack import auc, precision, row_lengths
from fedmem.core.stages import PRETRAIN_SASREC
from fedmem.core.training.batches import RoundKey
from fedmem.core.updates.cohort import train_each_user
from fedmem.core.updates.filters import make_filters
from fedmem.serve.schemas import Exposure

ITEM_TABLE = "sasrec.item_emb.weight"


def exposure(node: Node, parameters: Parameters, user: int) -> Exposure:
    """Attack the upload that a user would send from these parameters.

    Args:
        node: with the user's history.
        parameters: of a model of any stage, by name; those of its backbone are used.
        user: index.
    """
    stage = PRETRAIN_SASREC
    own = node.model(stage).state_dict()
    node.load(stage, {name: parameters[name] for name in own})
    key = RoundKey(node.settings.seed, stage.name, 1)
    filters = make_filters(node.settings)
    update = train_each_user(node.trainer(stage), np.array([user]), key, filters)
    own_items = np.unique(node.interactions.training(user))
    size, lengths = len(own_items), row_lengths(update.change[ITEM_TABLE].cpu())
    if not size or size == len(lengths):
        return Exposure(history=size, found=0, auc=0.5, says="There is nothing to find.")
    found = round(size * precision(lengths, own_items))
    return Exposure(
        history=size,
        found=found,
        auc=auc(lengths, own_items),
        says=(
            f"Whoever sees one upload of stage 1 names {found} of the {size} items that it was "
            f"trained on, by looking at which rows changed most."
        ),
    )
