"""One checkpoint on one node's histories: all that is computed once, and used by every request.

It is never changed: a checkpoint that a round replaces, or something that is forgotten, makes a new
one, and requests that are under way end with the one that they began with.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import torch
from torch import Tensor

from fedmem.core.arrays import Ints, UserIndices
from fedmem.core.checkpoint import Checkpoint, find_checkpoint
from fedmem.core.data import load_histories
from fedmem.core.data.ids import as_text
from fedmem.core.memory import Account, account_of, novelty_histogram
from fedmem.core.model.new_items import NewPlaces
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage
from fedmem.recommend.new_items import NewItems
from fedmem.recommend.person import Person, memory_of, person_at, surprise_of, threshold_of
from fedmem.recommend.recommendation import Ranker
from fedmem.runs.folder import shown

KEPT_PAIRS = 640 * 2**20
"""Bytes that the memory's experts may keep of what entries have to do with all items, where no less
than eight times as much is free. Half of a request's time are these products. They take 164 KB an
item that occurs in a history here, where there are 3,416 items and six heads."""

Stamp = tuple[str, int, int, int]
"""Of a file: its path, and what changes when another takes its place."""


@dataclass(frozen=True)
class Asker:
    """Whom to recommend to, and what the model makes of the history.

    Attributes:
        person: the history, and what is not to be recommended.
        hidden: [D] the state after it.
        memory: [M] items that the memory gives; None where the stage reads none.
    """

    person: Person
    hidden: Tensor
    memory: Ints | None


class ServedModel:
    """A stage's model with its item tables, the histories, and the users' states as they come up.

    Args:
        node: the histories and their content.
        stage: of the checkpoint.
        checkpoint: which fits the data.
        stamp: of its file, when it was read.
        residents: indices of the users who may be served, ascending.
        counts: `Node.novelty_histogram`, where it is known already.
        ranker: of the checkpoint, where it is made already.
    """

    def __init__(
        self,
        node: Node,
        stage: Stage,
        checkpoint: Checkpoint,
        stamp: Stamp,
        residents: UserIndices,
        counts: npt.NDArray[np.int64] | None = None,
        ranker: Ranker | None = None,
    ) -> None:
        self.node, self.stage, self.checkpoint, self.stamp = node, stage, checkpoint, stamp
        self.residents = residents
        self.hash = checkpoint.hash
        self.ranker = self._make_ranker() if ranker is None else ranker
        self.model = self.ranker.model
        self._counts = counts
        self._askers: dict[int, Asker] = {}
        self._lock = threading.Lock()

    @classmethod
    def load(
        cls,
        settings: Settings,
        users: UserIndices,
        residents: UserIndices,
        stage: str | None,
        before: ServedModel | None,
    ) -> ServedModel:
        """The model of the last stage that has a checkpoint, or of the named one.

        The `users` are those who take part in the node's training. What was read for the model
        `before` is used again, as far as it is the same.

        Raises:
            FedmemError: there is no checkpoint, or it does not fit the data.
        """
        found, path = find_checkpoint(settings, stage)
        stamp = stamp_of(path)  # before it is read: another may come meanwhile
        checkpoint = Checkpoint.load(path)
        node = Node(settings, users)
        fingerprint = node.interactions.fingerprint
        content = node.corpus.content_files if checkpoint.content else ""
        checkpoint.require_fit(path, found.name, fingerprint, settings.model, content)
        node.settings = replace(settings, model=checkpoint.model)  # which may have other experts
        counts = None
        if before is not None:
            share_content(before.node, node)
            same = before.node.histories.forgotten == node.histories.forgotten
            counts = before.novelty_counts if same and found.memory else None
        return cls(node, found, checkpoint, stamp, residents, counts)

    def after_forgetting(self, user: int) -> ServedModel:
        """The same model on the histories as they are now that this user had something forgotten.

        Only what depends on that history is computed again.
        """
        complete = load_histories(self.node.settings).warm.complete
        node = Node(self.node.settings, np.intersect1d(self.node.users, complete))
        share_content(self.node, node)
        counts = None
        if self.stage.memory:
            of_user = (self._novelty_counts_of(each, user) for each in (self.node, node))
            old, new = of_user
            counts = self.novelty_counts - old + new
        about = (self.stage, self.checkpoint, self.stamp, self.residents, counts, self.ranker)
        fresh = ServedModel(node, *about)
        if fresh.threshold == self.threshold:
            with self._lock:
                fresh._askers = {u: each for u, each in self._askers.items() if u != user}
        return fresh

    @property
    def summary(self) -> str:
        """What is served, in a line."""
        return (
            f"{shown(self.stamp[0])}, {self.stage.name}, round {self.checkpoint.round}; "
            f"{len(self.residents):,} users, {self.node.interactions.num_items:,} items"
        )

    @cached_property
    def novelty_counts(self) -> npt.NDArray[np.int64]:
        """`Node.novelty_histogram`."""
        return self.node.novelty_histogram() if self._counts is None else self._counts

    @cached_property
    def threshold(self) -> float:
        """The novelty from which memories are written; 0 where the stage has none."""
        if not self.stage.memory:
            return 0.0
        return threshold_of(self.node.settings.memory, self.novelty_counts)

    @cached_property
    def user_indices(self) -> dict[str, int]:
        """Index of each user who lives here, by the data's own id."""
        ids = as_text(self.node.interactions.user_ids)
        return {str(ids[user]): user for user in self.residents.tolist()}

    @cached_property
    def item_ids(self) -> list[str]:
        """[I + 1] the data's own id of each item, as text; entry 0 is padding's."""
        return [str(own) for own in as_text(self.node.interactions.item_ids)]

    @cached_property
    def item_indices(self) -> dict[str, int]:
        """Dense id of each item, by its own."""
        return {own: item for item, own in enumerate(self.item_ids) if item}

    @cached_property
    def new_places(self) -> NewPlaces:
        """For items that the model does not know."""
        return NewPlaces(self.model, self.node.settings.model, self.node.content)

    def of_user(self, user: int) -> Asker:
        """A user of this index, computed once."""
        with self._lock:
            found = self._askers.get(user)
        if found is None:
            (found,) = self.of_people([person_at(self.node, user)])
            with self._lock:
                self._askers[user] = found
        return found

    def of_people(self, people: Sequence[Person]) -> list[Asker]:
        """People with histories, none of them empty: one forward pass for all."""
        hidden = self.ranker.hidden([person.history for person in people])
        memories = [self._memory_of(person.history) for person in people]
        return [Asker(*each) for each in zip(people, hidden, memories, strict=True)]

    @staticmethod
    def stacked(askers: Sequence[Asker]) -> Tensor:
        """Their states [B, D]."""
        return torch.stack([asker.hidden for asker in askers])

    def with_items(self, new: NewItems) -> Ranker:
        """A ranker that ranks new items beside the known ones."""
        return Ranker(self.model, self.node.settings, new)

    def account(self, history: Ints) -> Account:
        """What a memory of this history holds, and why."""
        settings, catalogue = self.node.settings.memory, self.node.novelties.catalogue
        losses = surprise_of(self.node, self.model, history)
        return account_of(settings, self.threshold, catalogue, history, losses)

    def _make_ranker(self) -> Ranker:
        node = self.node
        model = node.load(self.stage, self.checkpoint.parameters, self.hash).cpu()
        ranker = Ranker(model, node.settings)
        often = np.bincount(node.interactions.items, minlength=node.interactions.num_items + 1)
        size = min(KEPT_PAIRS, psutil.virtual_memory().available // 8)
        wanted = np.argsort(-often, kind="stable")[: np.count_nonzero(often)]
        ranker.keep_pairs(size, wanted.astype(np.int32))
        return ranker

    def _memory_of(self, history: Ints) -> Ints | None:
        if not self.stage.memory:
            return None
        memory = memory_of(self.node, self.model, history, self.threshold)
        return memory.retrieve()[0]

    @staticmethod
    def _novelty_counts_of(node: Node, user: int) -> npt.NDArray[np.int64]:
        if not np.isin(user, node.interactions.complete):
            return novelty_histogram(np.zeros(0, np.float32))
        places = node.interactions.training_places(np.array([user]))
        return novelty_histogram(node.novelties.at(places))


def share_content(known: Node, fresh: Node) -> None:
    """Give a node of the same items what another has read and made of their content."""
    for name in ("content", "vectors"):
        if name in vars(known):
            setattr(fresh, name, getattr(known, name))


def stamp_of(path: Path) -> Stamp:
    """What changes when another file takes the place of this one."""
    about = path.stat()
    return str(path), about.st_ino, about.st_mtime_ns, about.st_size
