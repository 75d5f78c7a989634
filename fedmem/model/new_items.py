"""New items: content, and no interaction that an ID embedding could have been learned from."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmem.model.recommender import Content, Recommender
from fedmem.settings import ModelSettings


@torch.no_grad()
def with_new_items(model: Recommender, settings: ModelSettings, new: Content) -> Recommender:
    """The model with items appended to its catalogue, from item id I + 1 on.

    In the place of its ID embedding a new item has its content's, z with picture and text weighed
    alike: what the projectors learned to make of content lies in the space of the IDs. From there
    on it is an item like any other.

    Args:
        model: of a stage with content; left as it is.
        settings: that it was made with.
        new: of the new items [K + 1], row 0 the padding.
    """
    known = model.sasrec.item_emb.weight  # [I + 1, D]
    content = Content(
        torch.cat([model.visual, new.visual[1:].to(known.device)]),
        torch.cat([model.text, new.text[1:].to(known.device)]),
    )
    count = len(content.text) - 1
    larger = Recommender(settings, model.stage, count, content).to(known.device).eval()
    parameters = model.state_dict()
    room = known.new_zeros(count + 1 - len(known), known.shape[1])
    parameters["sasrec.item_emb.weight"] = torch.cat([known, room])
    larger.load_state_dict(parameters)
    tables = larger.tables()
    assert tables is not None
    larger.sasrec.item_emb.weight[len(known) :] = tables.content(larger.lean)[len(known) :]
    return larger
