"""From what the engine finds to what the API answers: titles, colours, words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch

from fedmem.core.memory import Account
from fedmem.recommend.explanation import Explanation
from fedmem.serve.engine import Answer
from fedmem.serve.model import ServedModel
from fedmem.serve.pictures import Pictures
from fedmem.serve.schemas import (
    Effect,
    Item,
    LongTermItem,
    MemoryView,
    NewItem,
    Parts,
    Reasons,
    RecommendedItem,
    Result,
    ShortTermItem,
)


class Views:
    """How the items of one served model are shown.

    Args:
        served: the model.
        titles: by the data's own ids.
        pictures: of the items; None: there are none.
    """

    def __init__(
        self, served: ServedModel, titles: Mapping[str, str], pictures: Pictures | None
    ) -> None:
        self._served, self._titles, self._pictures = served, titles, pictures

    @cached_property
    def hues(self) -> list[int]:
        """[I + 1] degrees on the circle of colours, by the first two principal components of the
        items' vectors: similar items have similar colours.
        """
        table = self._served.model.sasrec.item_emb.weight.detach()
        if self._served.stage.content:
            table = torch.from_numpy(self._served.node.corpus.vectors)
        centred = table[1:] - table[1:].mean(0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the components are found from random beginnings
            _, _, axes = torch.pca_lowrank(centred, q=min(4, *centred.shape), center=False)
        across, up = (centred @ axes[:, :2]).T if axes.shape[1] > 1 else (centred[:, 0],) * 2
        spread = across.std().clamp(min=1e-12), up.std().clamp(min=1e-12)
        angles = torch.atan2(up / spread[1], across / spread[0]) * (180 / math.pi)
        return [0, *(round(angle) % 360 for angle in angles.tolist())]

    def item(self, item: int) -> Item:
        """An item of the catalogue, by its dense id."""
        own = self._served.item_ids[item]
        return Item(
            id=own,
            title=self._titles.get(own) or f"Item {own}",
            hue=self.hues[item],
            picture=self._pictures is not None and own in self._pictures,
        )

    def result(self, answer: Answer, new: Sequence[NewItem] = ()) -> Result:
        """What was recommended for one history; `new` items have the ids after the known ones."""
        items = []
        for place, one in enumerate(answer.found):
            if one.is_new:
                added = new[one.item - answer.ranker.known]
                title = added.title or f"Item {added.id}"
                shown = Item(id=added.id, title=title, hue=210, picture=False)
            else:
                shown = self.item(one.item)
            items.append(
                RecommendedItem(
                    **vars(shown),
                    score=one.score,
                    parts=Parts(**one.parts),
                    is_new=one.is_new,
                    why=self._reasons(answer.why[place]) if answer.why else None,
                )
            )
        return Result(items=items)

    def memory(self, user: str, interactions: int, account: Account | None) -> MemoryView:
        """What a user's memory holds, and why; None: the stage has no memory."""
        settings = self._served.node.settings.memory
        held = account or Account([], [], 0)
        newest = len(held.short_term)
        return MemoryView(
            user=user,
            has_memory=account is not None,
            interactions=interactions,
            threshold=self._served.threshold,
            short_term_capacity=settings.short_term_capacity,
            long_term_capacity=settings.long_term_capacity,
            evicted=held.evicted,
            short_term=[
                ShortTermItem(item=self.item(item), why=_why_short(newest - place))
                for place, item in enumerate(held.short_term)
            ],
            long_term=[
                LongTermItem(
                    item=self.item(entry.item),
                    merged=[self.item(item) for item in entry.merged],
                    novelty=entry.novelty,
                    utility=entry.utility,
                    age=interactions - entry.step,
                    is_next=entry.is_next,
                    why=self._why_long(entry.novelty, entry.loss, len(entry.merged)),
                )
                for entry in held.long_term
            ],
        )

    def _reasons(self, why: Explanation) -> Reasons:
        latest = zip(why.latest, why.by_latest, strict=True)
        memory = sorted(zip(why.memory, why.by_memory, strict=True), key=lambda each: -each[1])
        return Reasons(
            latest=[Effect(item=self.item(item), effect=effect) for item, effect in latest],
            memory=[Effect(item=self.item(item), effect=effect) for item, effect in memory],
            memory_rest=why.memory_rest,
        )

    def _why_long(self, novelty: float | None, loss: float | None, merged: int) -> str:
        if novelty is not None:
            why = (
                f"Unlike what came before it: its novelty was {novelty:.2f}, and "
                f"{self._served.threshold:.2f} is enough."
            )
        else:
            least = self._served.node.settings.memory.surprise_threshold
            why = (
                f"A surprise: the model's loss on it was {loss or 0:.2f}, and {least:g} is enough."
            )
        if merged:
            times = "once" if merged == 1 else f"{merged} times"
            why += f" Something similar came {times} after it and was merged into it."
        return why


def _why_short(age: int) -> str:
    return "The latest." if age == 1 else f"Among the latest: {age - 1} came after it."
