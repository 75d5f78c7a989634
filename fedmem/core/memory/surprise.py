"""What a model loses on interactions: a memory writes items without content when they surprise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from fedmem.core.data import Interactions
from fedmem.core.evaluation.protocol import last_hidden
from fedmem.core.model import Recommender
from fedmem.core.settings import Settings
from fedmem.core.training import losses


@torch.no_grad()
def losses_at(
    model: Recommender,
    settings: Settings,
    interactions: Interactions,
    places: npt.NDArray[np.integer],
) -> npt.NDArray[np.float64]:
    """The model's cross-entropy [n] over all items at places in `Interactions.items`.

    The first position of a history has nothing before it to predict from: its loss is that of a
    guess.
    """
    items, first = interactions.items, interactions.starts_at(places)
    result = np.full(len(places), np.log(interactions.num_items))
    later = np.flatnonzero(places > first)
    hidden = last_hidden(model, settings, [items[first[k] : places[k]] for k in later])
    for batch in np.array_split(np.arange(len(later)), 1 + len(later) // 256):
        targets = torch.from_numpy(items[places[later[batch]]]).long().to(hidden.device)
        values = losses.cross_entropy_over_items(
            hidden[batch], model.sasrec.item_emb.weight, targets
        )
        result[later[batch]] = values.cpu().numpy()
    return result
