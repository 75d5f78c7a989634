"""The best items for one history, and what each of their scores is made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedmem.core.arrays import Ints
from fedmem.core.model import Recommender
from fedmem.core.model.content import leanings
from fedmem.core.model.new_items import with_new_items
from fedmem.core.settings import Settings
from fedmem.core.training.hidden_states import last_hidden
from fedmem.recommend.new_items import NewItems
from fedmem.recommend.person import Person

PARTS = ("sequence", "text", "picture", "memory")


@dataclass(frozen=True)
class Recommended:
    """One item, and what its score comes from.

    Attributes:
        item: dense id; new items come after the known ones.
        score: the sum of the parts.
        parts: by the names of `PARTS`.
        is_new: whether the item has content alone.
    """

    item: int
    score: float
    parts: dict[str, float]
    is_new: bool


@torch.no_grad()
def recommend(
    model: Recommender,
    settings: Settings,
    person: Person,
    top_k: int,
    memory: Ints | None,
    new: NewItems | None,
) -> list[Recommended]:
    """The `top_k` items with the highest scores, the best first; none that the person touched.

    `memory` are the items [M] that the person's memory gives, None where the stage reads none. New
    items get the ids after those of the model.
    """
    known = len(model.sasrec.item_emb.weight)
    if new is not None:
        model = with_new_items(model, settings.model, new.known, new.content)
    items = torch.arange(1, len(model.sasrec.item_emb.weight))
    hidden = last_hidden(model, settings, [person.history])[:, None]  # [1, 1, D]
    reads = None if memory is None else torch.from_numpy(memory).long()[None, None]
    scores = model.score(hidden, items, model.tables(), reads)
    parts = {name: part[0, 0] for name, part in model.contributions(scores).items()}
    total = scores.total[0, 0].clone()
    total[person.history - 1] = -torch.inf
    if new is not None:
        parts = _credit_content(new, parts, known)
        total[new.among(person.touched) + known - 2] = -torch.inf
    best = total.topk(min(top_k, int(total.isfinite().sum()))).indices.tolist()
    return [
        Recommended(
            item=place + 1,
            score=float(total[place]),
            parts={name: float(parts[name][place]) if name in parts else 0.0 for name in PARTS},
            is_new=place + 1 >= known,
        )
        for place in best
    ]


def _credit_content(new: NewItems, parts: dict[str, Tensor], known: int) -> dict[str, Tensor]:
    """The parts [I], with what stands in for a new item's ID credited to its content.

    Picture and text share it as they share the stand-in, alike where the item has both.
    """
    stands_in = parts["sequence"].clone()
    stands_in[: known - 1] = 0.0
    picture = torch.zeros_like(stands_in)
    picture[known - 1 :] = torch.sigmoid(leanings(new.content.present[1:]))
    return {
        **parts,
        "sequence": parts["sequence"] - stands_in,
        "picture": parts.get("picture", 0.0) + picture * stands_in,
        "text": parts.get("text", 0.0) + (1 - picture) * stands_in,
    }
