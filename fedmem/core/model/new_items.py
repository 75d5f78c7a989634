"""New items: content, and no interaction that an ID embedding could have been learned from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fedmem.core.model.content import Content
from fedmem.core.model.item_start import Matrix, centred, means_of
from fedmem.core.model.recommender import Recommender
from fedmem.core.model.ridge import Ridge
from fedmem.core.settings import ModelSettings
from fedmem.core.stages import Stage


def places_new_items(stage: Stage, settings: ModelSettings) -> bool:
    """Whether a stage's model can rank items that nobody has touched, by their content."""
    return stage.content or (settings.item_start == "content" and not stage.projects)


class NewPlaces:
    """Places for new items in a model's catalogue, from item id I + 1 on.

    In the place of its ID embedding a new item has what its content makes of it beside that of the
    known items, `stand_ins`: where the item table started from content, what the known items say
    that such content has become, `Estimate`, else z̄. From there on it is an item like any other,
    in every part of the score.

    Args:
        model: which stays as it is, and must not change.
        settings: that it is made with.
        known: content [I + 1, …] of its items.
    """

    def __init__(self, model: Recommender, settings: ModelSettings, known: Content) -> None:
        self.model, self.settings, self.known = model, settings, known

    @cached_property
    def estimate(self) -> Estimate:
        """That of the known items' ID embeddings, fitted once."""
        return Estimate.fit(self.known, self.model.sasrec.item_emb.weight)

    @torch.no_grad()
    def model_with(self, new: Content) -> Recommender:
        """The model with items of this content [K + 1, …], row 0 the padding, appended."""
        model, known = self.model, self.known
        item_emb = model.sasrec.item_emb.weight  # [I + 1, D]
        content = Content(
            torch.cat([known.visual, new.visual[1:]]), torch.cat([known.text, new.text[1:]])
        )
        count, first = len(content.text) - 1, len(item_emb)
        larger = Recommender(self.settings, model.stage, count, content).to(item_emb.device).eval()
        room = item_emb.new_zeros(count + 1 - first, item_emb.shape[1])
        parameters = {**model.state_dict(), "sasrec.item_emb.weight": torch.cat([item_emb, room])}
        larger.load_state_dict(parameters)
        measured = content.present[:first].any(1).to(item_emb.device)
        if self.settings.item_start == "content":
            rows = self.estimate(content).to(item_emb)
        else:
            rows = larger.content()
        larger.sasrec.item_emb.weight[first:] = stand_ins(
            rows[first:], rows[:first][measured], item_emb[measured]
        )
        return larger


@dataclass(frozen=True)
class Estimate:
    """A map linear in items' content, as near to ID embeddings of known items as can be said of
    others too: a ridge regression.

    Before training that is the row that an item starts from. Training moves rows by who touches
    what, and takes items with like content in like directions: so it would have taken a new one.

    Attributes:
        means: of the known items' pictures [V] and texts [S], see `means_of`.
        ridge: from both [V + S] less these to ID embeddings [D].
    """

    means: tuple[Matrix, Matrix]
    ridge: Ridge

    @classmethod
    def fit(cls, known: Content, item_emb: Tensor) -> Estimate:
        """That of known items: content [I + 1, …] and ID embeddings [I + 1, D]."""
        means, present = means_of(known), known.present.any(1)
        rows = item_emb.detach().cpu()[present].double()
        return cls(means, Ridge.fit(torch.from_numpy(centred(known, means))[present], rows))

    def __call__(self, content: Content) -> Tensor:
        """[K + 1, D] float64 of items' content [K + 1, …]."""
        return self.ridge(torch.from_numpy(centred(content, self.means)))


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
