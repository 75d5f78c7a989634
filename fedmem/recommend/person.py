"""Whom to recommend to: a user of the data, or somebody with a history of their items."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import Ints
from fedmem.core.data.ids import LISTED, Ids, as_text
from fedmem.core.errors import FedmemError
from fedmem.core.memory import TwoTierMemory, auto_threshold
from fedmem.core.model import Recommender
from fedmem.core.node import Node
from fedmem.core.settings import MemorySettings
from fedmem.core.training.hidden_states import losses_at


@dataclass(frozen=True)
class Person:
    """Whom to recommend to.

    Attributes:
        name: as shown.
        history: [n] dense ids of the items that the model knows, oldest first.
        touched: own ids, as text, of all items that are not to be recommended.
        excluded: [x] dense ids of further such items.
    """

    name: str
    history: Ints
    touched: set[str]
    excluded: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int32))


def find_user(node: Node, wanted: str) -> Person:
    """A user of the data.

    Raises:
        FedmemError: there is no user of this id.
    """
    warm = node.histories.warm
    elsewhere = node.settings.data.first_index  # users of other nodes, who have no id here
    ids = warm.user_ids[elsewhere:]
    found = np.flatnonzero(as_text(ids) == wanted)
    if not len(found):
        raise FedmemError(
            f"There is no user {wanted} in data={node.settings.data.name}, which has {len(ids):,}: "
            f"near it are {_near(ids, wanted)}."
        )
    return person_at(node, elsewhere + int(found[0]))


def person_at(node: Node, user: int) -> Person:
    """The user of this index."""
    warm, cold = node.histories.warm, node.histories.cold
    history = warm.history(user)
    touched = [*warm.item_ids[history], *cold.item_ids[cold.history(user)]]
    return Person(f"user {warm.user_ids[user]}", history, {str(item) for item in touched})


def of_history(node: Node, given: Sequence[str]) -> Person:
    """Somebody with this history of items, by their own ids, oldest first.

    What is given is an id, where there is an item of it, else several that are separated by commas.

    Raises:
        FedmemError: an item is not known.
    """
    ids = node.interactions.item_ids
    dense = {str(own): place for place, own in enumerate(ids) if place}
    listed = ([each] if each.strip() in dense else each.split(",") for each in given)
    wanted = [item.strip() for items in listed for item in items if item.strip()]
    for item in wanted:
        if item not in dense:
            message = (
                f"There is no item {item} in data={node.settings.data.name}: near it are "
                f"{_near(ids[1:], item)}."
            )
            if any("," in own for own in dense):
                message += "\nGive ids that hold commas one at a time: --history ID --history ID"
            raise FedmemError(message)
    if not wanted:
        raise FedmemError("--history names no item: give ids, separated by commas.")
    history = np.array([dense[item] for item in wanted], dtype=np.int32)
    return Person("this history", history, set(wanted))


def threshold_of(settings: MemorySettings, histogram: npt.NDArray[np.int64]) -> float:
    """The novelty from which memories are written, by the `Node.novelty_histogram` of all users."""
    if settings.threshold == "auto":
        return auto_threshold(histogram, settings.write_ratio)
    return settings.threshold


def memory_of(node: Node, model: Recommender, history: Ints, threshold: float) -> TwoTierMemory:
    """The memory of somebody with this history, filled by this model's surprise."""
    memory = TwoTierMemory(node.settings.memory, threshold, node.novelties.catalogue)
    memory.extend(history, surprise_of(node, model, history))
    return memory


def surprise_of(node: Node, model: Recommender, history: Ints) -> npt.NDArray[np.float64]:
    """The model's loss [n] on each item of a history that has no content; 0 on others."""
    losses = np.zeros(len(history))
    places = np.flatnonzero(~node.novelties.catalogue.has_content[history])
    if len(places):
        alone = replace(
            node.interactions,
            offsets=np.array([0, len(history)]),
            items=history,
            user_ids=node.interactions.user_ids[:1],
        )
        losses[places] = losses_at(model, node.settings, alone, places)
    return losses


def _near(ids: Ids, wanted: str) -> str:
    """A few ids that are most like the one that is not there."""
    texts = as_text(ids).tolist()
    if ids.dtype != object and re.fullmatch(r"-?[0-9]{1,300}", wanted):
        places = np.argsort(np.abs(ids - float(wanted)), kind="stable")[:LISTED]
        return ", ".join(texts[place] for place in np.sort(places))
    close = difflib.get_close_matches(wanted, texts, n=LISTED, cutoff=0.0)
    return ", ".join(close or texts[:LISTED])
