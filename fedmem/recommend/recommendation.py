"""The best items for histories, and what each of their scores is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmem.core.arrays import Ints
from fedmem.core.model import Recommender
from fedmem.core.model.content import leanings
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


class Ranker:
    """Ranks all items for people, by one model; what it needs of the items is computed once.

    Args:
        model: of a stage; it must not change.
        settings: of the run, with the model's own.
        new: items beside those that the model knows, which get the ids after them.
    """

    @torch.no_grad()
    def __init__(self, model: Recommender, settings: Settings, new: NewItems | None = None) -> None:
        self.settings = settings
        self.known = len(model.sasrec.item_emb.weight)
        """Dense ids below are those of known items, 0 the padding."""
        if new is not None:
            model = new.places.model_with(new.content)
        self.model = model
        self.tables = model.tables()
        self._new = new
        self._items = torch.arange(1, len(model.sasrec.item_emb.weight))

    def keep_pairs(self, size: int, first: Ints) -> None:
        """Spend memory to rank faster for one person after another; from then on one thread only.

        Args:
            size: bytes, at most.
            first: ids of the items that memories hold most, the most wanted first.
        """
        if self.tables is not None and len(first):
            self.tables = self.model.with_kept_pairs(self.tables, size, first)

    def hidden(self, histories: Sequence[Ints]) -> Tensor:
        """States [B, D] after histories, none of them empty: one forward pass."""
        return last_hidden(self.model, self.settings, list(histories))

    @torch.inference_mode()
    def best(
        self,
        people: Sequence[Person],
        top_k: int,
        hidden: Tensor,
        memories: Ints | None,
    ) -> list[list[Recommended]]:
        """For each person the `top_k` items with the highest scores, the best first.

        Args:
            people: [B]; nothing that they touched is recommended, nor what they exclude.
            top_k: at least 1; where fewer items are left, fewer are given.
            hidden: [B, D] their states, see `hidden`.
            memories: [B, M] items that their memories give; None where the stage reads none.
        """
        reads = None if memories is None else torch.from_numpy(memories).long()[:, None]
        scores = self.model.score(hidden[:, None], self._items, self.tables, reads)
        total = scores.total[:, 0].clone()  # [B, I]
        for row, person in zip(total, people, strict=True):
            row[person.history - 1] = -torch.inf
            row[person.excluded - 1] = -torch.inf
            if self._new is not None:
                row[self._new.among(person.touched) + self.known - 2] = -torch.inf
        values, places = total.topk(min(top_k, total.shape[1]), dim=1)  # [B, K]
        chosen = scores.map(lambda x: x[:, 0].gather(1, places) if x.numel() else x)
        parts = self.model.contributions(chosen)
        if self._new is not None:
            parts = self._credit_content(self._new, parts, places + 1)
        zeros = torch.zeros_like(values)
        by_part = torch.stack([parts.get(name, zeros) for name in PARTS], dim=2)  # [B, K, P]
        return [
            [
                Recommended(
                    place + 1, score, dict(zip(PARTS, own, strict=True)), self.is_new(place + 1)
                )
                for place, score, own in zip(*each, strict=True)
                if score > -torch.inf
            ]
            for each in zip(places.tolist(), values.tolist(), by_part.tolist(), strict=True)
        ]

    def is_new(self, item: int) -> bool:
        """Whether a dense id is that of a new item."""
        return item >= self.known

    def _credit_content(
        self, new: NewItems, parts: dict[str, Tensor], items: Tensor
    ) -> dict[str, Tensor]:
        """The parts of items [B, K], with what stands in for a new item's ID credited to its
        content.

        Picture and text share it as they share the stand-in, alike where the item has both.
        """
        stands_in = parts["sequence"] * (items >= self.known)
        of_known = torch.zeros(self.known)
        share = torch.cat([of_known, torch.sigmoid(leanings(new.content.present[1:]))])
        picture = share[items] * stands_in
        return {
            **parts,
            "sequence": parts["sequence"] - stands_in,
            "picture": parts.get("picture", 0.0) + picture,
            "text": parts.get("text", 0.0) + (stands_in - picture),
        }


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
    ranker = Ranker(model, settings, new)
    memories = None if memory is None else memory[None]
    return ranker.best([person], top_k, ranker.hidden([person.history]), memories)[0]
