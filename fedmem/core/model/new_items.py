"""New items: content, and no interaction that an ID embedding could have been learned from."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmem.core.model.recommender import Content, Recommender
from fedmem.core.settings import ModelSettings


@torch.no_grad()
def with_new_items(model: Recommender, settings: ModelSettings, new: Content) -> Recommender:
    """The model with items appended to its catalogue, from item id I + 1 on.

    In the place of its ID embedding a new item has what its content [K + 1], row 0 the padding,
    makes of it, `stand_ins`. From there on it is an item like any other, in every part of the
    score. The model is of a stage with content, made with these settings, and stays as it is.
    """
    known = model.sasrec.item_emb.weight  # [I + 1, D]
    content = Content(
        torch.cat([model.visual, new.visual[1:].to(known.device)]),
        torch.cat([model.text, new.text[1:].to(known.device)]),
    )
    count = len(content.text) - 1
    larger = Recommender(settings, model.stage, count, content).to(known.device).eval()
    room = known.new_zeros(count + 1 - len(known), known.shape[1])
    parameters = {**model.state_dict(), "sasrec.item_emb.weight": torch.cat([known, room])}
    larger.load_state_dict(parameters)
    measured = larger.has_content[: len(known)]
    larger.sasrec.item_emb.weight[len(known) :] = stand_ins(
        larger.content()[len(known) :], larger.content()[: len(known)][measured], known[measured]
    )
    return larger


def stand_ins(new: Tensor, content: Tensor, item_emb: Tensor) -> Tensor:
    """z̄ of new items [K, D], moved and stretched to the mean and the spread of ID embeddings.

    Those are `item_emb` [N, D] of known items, whose z̄ is `content` [N, D]. The projectors are
    trained beside the ID embeddings, and nothing says where in the space z̄ lies as a whole nor how
    long it is: the softmax over items does not feel the first, and has the second in common with e.
    Among new items this changes little; among all it is what makes their scores comparable.
    """
    centre, mean = content.mean(0), item_emb.mean(0)
    spread = (content - centre).square().sum().clamp(min=1e-12).sqrt()
    stretch = (item_emb - mean).square().sum().sqrt() / spread
    return mean + stretch * (new - centre)
