"""Rankings of cold items: those that `evaluation.cold_items` keeps from training.

Of each user the latest interaction with a cold item is predicted from the warm ones before it.

- `cold_sampled`: that item among cold items that the user never touched;
- `cold_full`: among all items, warm and cold, but the user's own;
- `cold_text`, `cold_picture`: `cold_sampled` where the items have only this kind of content; none
  of a kind that the run goes without;
- `cold_id`: `cold_sampled` by ID alone: an embedding as a model starts with it, never trained.

A stage without content has `cold_id` only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fedmem.core.arrays import Ints, Positions, UserIndices
from fedmem.core.data import Histories
from fedmem.core.data.content import kinds_of
from fedmem.core.evaluation.protocol import Ranks, draw_negatives
from fedmem.core.evaluation.ranking import by_embeddings, by_model, ranks_among, ranks_among_all
from fedmem.core.model import Content, Recommender
from fedmem.core.model.backbone import SASRec
from fedmem.core.model.new_items import NewPlaces
from fedmem.core.settings import Settings
from fedmem.core.training.hidden_states import last_hidden

BY_ID = "cold_id"


@torch.no_grad()
def rank_cold(
    model: Recommender,
    settings: Settings,
    histories: Histories,
    users: UserIndices,
    content: tuple[Content, Content] | None,
    read_memory: Callable[[UserIndices, Positions], Ints] | None,
) -> Ranks:
    """Rank the latest cold item of each user who has one, with something warm before it.

    Where new items have a place in the model, `places_new_items`, the content of the warm items
    [I + 1] and of the cold ones [K + 1] is needed; where the stage reads the memory, `read_memory`:
    items [n, M] that memories of users [n] gave just before positions [n] of their warm histories.
    """
    warm, cold = histories.warm, histories.cold
    users, places = histories.latest_cold(users)
    before = histories.before[places]
    pasts = [warm.history(int(u), end) for u, end in zip(users, before, strict=True)]
    hidden = last_hidden(model, settings, pasts)
    positives = cold.items[places]
    negatives = draw_negatives(cold, users, settings.seed, settings.evaluation.negatives)
    untrained = untrained_embeddings(settings, cold.num_items).to(hidden.device)
    ranks = {BY_ID: ranks_among(by_embeddings(hidden, untrained), positives, negatives)}
    if content is not None:
        known, cold_content = content
        reads = None if read_memory is None else read_memory(users, before)
        first = warm.num_items  # cold items come after it
        positives, negatives = positives + first, np.where(negatives, negatives + first, 0)
        own = [np.concatenate([warm.history(int(u)), cold.history(int(u)) + first]) for u in users]
        kinds, rankings = kinds_of(settings), {"cold_sampled": cold_content}
        visual, text = cold_content.visual, cold_content.text
        if "text" in kinds:
            rankings["cold_text"] = Content(torch.zeros_like(visual), text)
        if "visual" in kinds:
            rankings["cold_picture"] = Content(visual, torch.zeros_like(text))
        new_places = NewPlaces(model, settings.model, known)
        for ranking, given in rankings.items():
            scorer = by_model(new_places.model_with(given), hidden, reads)
            ranks[ranking] = ranks_among(scorer, positives, negatives)
            if ranking == "cold_sampled":
                items = first + cold.num_items
                ranks["cold_full"] = ranks_among_all(scorer, positives, own, items)
    return Ranks(users.astype(np.int32), ranks)


def untrained_embeddings(settings: Settings, num_items: int) -> Tensor:
    """ID embeddings [K + 1, D] that no training has touched, by the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return SASRec(settings.model, num_items).item_emb.weight
