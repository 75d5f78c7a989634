"""What the page and the API are made of, without HTTP: a model that is served, and what is asked of
it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedmem.core.arrays import Ints, UserIndices
from fedmem.core.checkpoint import find_checkpoint
from fedmem.core.data.forgotten import forget, read_forgotten
from fedmem.core.errors import FedmemError, first_line
from fedmem.core.memory import Account
from fedmem.core.memory.memory_store import NodeStore
from fedmem.core.settings import Settings
from fedmem.core.transport.up import drop_remainders
from fedmem.recommend.explanation import Explanation, explain
from fedmem.recommend.new_items import NewItems
from fedmem.recommend.person import Person
from fedmem.recommend.recommendation import Ranker, Recommended
from fedmem.serve.model import Asker, ServedModel, stamp_of

SUGGESTED_AT_MOST = 50
"""Items or users that a search gives."""


class NotHere(FedmemError):
    """Something that was named is not known at this node."""


@dataclass(frozen=True)
class Answer:
    """What is recommended for one history.

    Attributes:
        ranker: that ranked; it says which items are new.
        found: the best items, the best first.
        why: of each of them; empty where nobody asked.
    """

    ranker: Ranker
    found: list[Recommended]
    why: list[Explanation]


class Engine:
    """Serves the newest checkpoint on a node's own histories.

    A request takes `served` once and stays with it. All that computes is called from one thread at
    a time, but for what replaces `served`.

    Args:
        settings: of the run that makes the checkpoint, as they are true at this node.
        residents: indices of the users who live here, ascending.
        users: those of them who take part in training, now.
        stage: whose checkpoint; None: the last stage that has one.
        stores: folders in which nodes keep what is theirs of these histories on the disk.

    Raises:
        FedmemError: there is no checkpoint, or no data that it fits.
    """

    def __init__(
        self,
        settings: Settings,
        residents: UserIndices,
        users: Callable[[], UserIndices],
        stage: str | None = None,
        stores: Callable[[], Sequence[Path]] = tuple,
    ) -> None:
        self.settings = settings
        self._residents, self._users = residents, users
        self._stage, self._stores = stage, stores
        self._replacing = threading.Lock()
        self.reloads = 0
        """Checkpoints that took the place of another."""
        self.trouble = ""
        """Why the newest checkpoint could not be taken over; empty: it was."""
        self.served = self._load(None)

    @property
    def is_current(self) -> bool:
        """Whether what is served is of the checkpoint and of the list of forgotten items that are
        on the disk now.
        """
        try:
            stamp = stamp_of(find_checkpoint(self.settings, self._stage)[1])
        except (FedmemError, OSError):
            return True  # another may be on its way: what is served stays
        forgotten = read_forgotten(self.settings.data).digest
        return (stamp, forgotten) == (self.served.stamp, self.served.node.histories.forgotten)

    def refresh(self) -> bool:
        """Serve the checkpoint that is there now, if it is another; whether it was.

        One that cannot be taken over leaves what is served as it is, and `trouble` says why.
        """
        with self._replacing:
            try:
                if self.is_current:
                    return False
                fresh = self._load(self.served)
            except (FedmemError, OSError, RuntimeError, ValueError) as error:
                self.trouble = first_line(error)
                return False
            self.reloads += fresh.hash != self.served.hash
            self.served, self.trouble = fresh, ""
            return True

    def watch(self, stop: threading.Event, interval: float) -> None:
        """`refresh` every so many seconds until asked to stop."""
        while not stop.wait(interval):
            self.refresh()

    def person_of(
        self, served: ServedModel, history: Sequence[str], exclude: Sequence[str] = ()
    ) -> Person:
        """Somebody with this history of items by their own ids, oldest first.

        Raises:
            NotHere: an item is not known, or the history is empty.
        """
        if not history:
            raise NotHere("The history is empty: give the ids of items, oldest first.")
        dense = self.dense(served, history)
        return Person("this history", dense, set(history), self.dense(served, exclude))

    def of_user(self, served: ServedModel, user: str, exclude: Sequence[str] = ()) -> Asker:
        """A user who lives here.

        Raises:
            NotHere: nobody of this id does, all of the history was forgotten, or an item to be
                excluded is not known.
        """
        index = self.index_of(served, user)
        if not len(served.node.interactions.history(index)):
            raise NotHere(f"Nothing is left of the history of user {user}.")
        asker = served.of_user(index)
        if not exclude:
            return asker
        person = asker.person
        excluded = Person(person.name, person.history, person.touched, self.dense(served, exclude))
        return Asker(excluded, asker.hidden, asker.memory)

    def answer(
        self,
        served: ServedModel,
        askers: Sequence[Asker],
        top_k: int,
        new: NewItems | None = None,
        with_why: bool = False,
    ) -> list[Answer]:
        """The best items for each; `why` explains each of them, if that is wanted."""
        ranker = served.ranker if new is None else served.with_items(new)
        reads = [asker.memory for asker in askers]
        memories = None if reads[0] is None else np.stack([m for m in reads if m is not None])
        hidden = served.stacked(askers)
        found = ranker.best([asker.person for asker in askers], top_k, hidden, memories)
        return [
            Answer(ranker, own, self._why(ranker, asker, own) if with_why else [])
            for asker, own in zip(askers, found, strict=True)
        ]

    def account(self, user: str) -> tuple[ServedModel, Ints, Account | None]:
        """A user's history and what the memory holds of it; None: the stage has no memory.

        Raises:
            NotHere: nobody of this id lives here.
        """
        served = self.served
        history = served.node.interactions.history(self.index_of(served, user))
        return served, history, served.account(history) if served.stage.memory else None

    def forget(self, user: str, item: str) -> tuple[int, int, int]:
        """Remove an item from a user's history and memory, on the disk and here, for good.

        The list of what was forgotten is on the disk first; from then on every reader of these
        histories goes without it. Files of memories are then rewritten, and what rounding left of
        the nodes' updates is deleted.

        Returns:
            Interactions that are gone, files of memories that were rewritten, and files of updates'
            remainders that were deleted.

        Raises:
            NotHere: the user or the item is not known, or not in the history.
            OSError: the disk does not take it; nothing is forgotten.
        """
        with self._replacing:
            served = self.served
            index = self.index_of(served, user)
            gone = self._occurrences(served, index, item)
            if not gone:
                raise NotHere(f"Item {item} is not in the history of user {user}.")
            digest = forget(self.settings.data, user, item).digest
            self.served = served.after_forgetting(index)
            stores = self._stores()
            rewritten = sum(NodeStore(each).forget(index, digest) for each in stores)
            return gone, rewritten, sum(map(drop_remainders, stores))

    @staticmethod
    def index_of(served: ServedModel, user: str) -> int:
        """The index of a user who lives here.

        Raises:
            NotHere: nobody of this id does.
        """
        index = served.user_indices.get(user)
        if index is None:
            raise NotHere(f"There is no user {user} at this node.")
        return index

    @staticmethod
    def dense(served: ServedModel, items: Sequence[str]) -> Ints:
        """Dense ids [n] of items by their own.

        Raises:
            NotHere: one is not known.
        """
        known = served.item_indices
        unknown = [item for item in items if item not in known]
        if unknown:
            more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise NotHere(f"There is no item {', '.join(unknown[:3])}{more} in this catalogue.")
        return np.array([known[item] for item in items], dtype=np.int32)

    @staticmethod
    def _occurrences(served: ServedModel, user: int, item: str) -> int:
        """How often the item stands in the user's history, warm or cold."""
        found = 0
        for part in (served.node.histories.warm, served.node.histories.cold):
            found += [str(own) for own in part.item_ids[part.history(user)]].count(item)
        return found

    @staticmethod
    def _why(ranker: Ranker, asker: Asker, found: Sequence[Recommended]) -> list[Explanation]:
        if not found:
            return []
        return explain(ranker, asker.person.history, asker.memory, [each.item for each in found])

    def _load(self, before: ServedModel | None) -> ServedModel:
        """What is there now, warm: its first request takes no longer than others."""
        fresh = ServedModel.load(self.settings, self._users(), self._residents, self._stage, before)
        history = np.arange(1, min(4, fresh.node.interactions.num_items) + 1, dtype=np.int32)
        asker = fresh.of_people([Person("nobody", history, set())])
        self.answer(fresh, asker, 1, with_why=True)
        return fresh


def search(texts: Sequence[tuple[str, str]], words: str) -> list[tuple[str, str]]:
    """Of pairs (id, title) those whose title holds all words, or whose id is them; a few.

    Titles that begin with the words come first.
    """
    wanted = words.casefold().split()
    whole = words.strip()
    found = [
        (title.casefold().startswith(wanted[0]) if wanted else False, own, title)
        for own, title in texts
        if own == whole or (wanted and all(word in title.casefold() for word in wanted))
    ]
    found.sort(key=lambda each: not each[0])
    return [(own, title) for _, own, title in found[:SUGGESTED_AT_MOST]]
