"""New items: content, and no interaction that an ID embedding could have been learned from."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmem.core.model.content import Content
from fedmem.core.model.item_start import centred, means_of
from fedmem.core.model.recommender import Recommender
from fedmem.core.model.ridge import Ridge
from fedmem.core.settings import ModelSettings
from fedmem.core.stages import Stage


def places_new_items(stage: Stage, settings: ModelSettings) -> bool:
    """Whether a stage's model can rank items that nobody has touched, by their content."""
    return stage.content or (settings.item_start == "content" and not stage.projects)


@torch.no_grad()
def with_new_items(
    model: Recommender, settings: ModelSettings, known: Content, new: Content
) -> Recommender:
    """The model with items appended to its catalogue, from item id I + 1 on.

    In the place of its ID embedding a new item has what its content [K + 1], row 0 the padding,
    makes of it beside that of the known items [I + 1], `stand_ins`: where the item table started
    from content, what the known items say that such content has become, `estimates`, else z̄. From
    there on it is an item like any other, in every part of the score. The model is made with these
    settings, and stays as it is.
    """
    item_emb = model.sasrec.item_emb.weight  # [I + 1, D]
    content = Content(
        torch.cat([known.visual, new.visual[1:]]), torch.cat([known.text, new.text[1:]])
    )
    count, first = len(content.text) - 1, len(item_emb)
    larger = Recommender(settings, model.stage, count, content).to(item_emb.device).eval()
    room = item_emb.new_zeros(count + 1 - first, item_emb.shape[1])
    parameters = {**model.state_dict(), "sasrec.item_emb.weight": torch.cat([item_emb, room])}
    larger.load_state_dict(parameters)
    measured = content.present[:first].any(1).to(item_emb.device)
    if settings.item_start == "content":
        rows = estimates(content, known, item_emb)
    else:
        rows = larger.content()
    larger.sasrec.item_emb.weight[first:] = stand_ins(
        rows[first:], rows[:first][measured], item_emb[measured]
    )
    return larger


def estimates(content: Content, known: Content, item_emb: Tensor) -> Tensor:
    """[I + 1, D] linear in items' content, as near to ID embeddings of known items as can be said
    of others too: a ridge regression.

    Before training that is the row that an item starts from. Training moves rows by who touches
    what, and takes items with like content in like directions: so it would have taken a new one.
    """
    means, present = means_of(known), known.present.any(1)
    rows = item_emb.cpu()[present].double()
    ridge = Ridge.fit(torch.from_numpy(centred(known, means))[present], rows)
    return ridge(torch.from_numpy(centred(content, means))).to(item_emb)


def stand_ins(new: Tensor, content: Tensor, item_emb: Tensor) -> Tensor:
    """What content makes of new items [K, D], moved and stretched to the mean and the spread of ID
    embeddings.

    Those are `item_emb` [N, D] of known items, of which content makes `content` [N, D]. Training
    moves ID embeddings as a whole, projectors are trained beside them, and nothing says where in
    the space z̄ lies nor how long it is: the softmax over items does not feel the first, and has
    the second in common with e.
    Among new items this changes little; among all it is what makes their scores comparable.
    """
    centre, mean = content.mean(0), item_emb.mean(0)
    spread = (content - centre).square().sum().clamp(min=1e-12).sqrt()
    stretch = (item_emb - mean).square().sum().sqrt() / spread
    return mean + stretch * (new - centre)
