"""Whom to recommend to: a user of the data, or somebody with a history of their items."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fedmem.core.arrays import Ints
from fedmem.core.data.ids import LISTED, Ids, as_text
from fedmem.core.errors import FedmemError
from fedmem.core.memory import TwoTierMemory, auto_threshold
from fedmem.core.model import Recommender
from fedmem.core.node import Node
from fedmem.core.training.hidden_states import losses_at


@dataclass(frozen=True)
class Person:
    """Whom to recommend to.

    Attributes:
        name: as shown.
        history: [n] dense ids of the items that the model knows, oldest first.
        touched: own ids, as text, of all items that are not to be recommended.
    """

    name: str
    history: Ints
    touched: set[str]


def find_user(node: Node, wanted: str) -> Person:
    """A user of the data.

    Raises:
        FedmemError: there is no user of this id.
    """
    warm, cold = node.histories.warm, node.histories.cold
    elsewhere = node.settings.data.first_index  # users of other nodes, who have no id here
    ids = warm.user_ids[elsewhere:]
    found = np.flatnonzero(as_text(ids) == wanted)
    if not len(found):
        raise FedmemError(
            f"There is no user {wanted} in data={node.settings.data.name}, which has {len(ids):,}: "
            f"near it are {_near(ids, wanted)}."
        )
    user = elsewhere + int(found[0])
    history = warm.history(user)
    touched = [*warm.item_ids[history], *cold.item_ids[cold.history(user)]]
    return Person(f"user {wanted}", history, {str(item) for item in touched})


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


def memory_of(node: Node, model: Recommender, history: Ints) -> Ints:
    """Items [M] that a memory gives after this history; the threshold is that of all users."""
    settings = node.settings
    threshold = settings.memory.threshold
    if threshold == "auto":
        threshold = auto_threshold(node.novelty_histogram(), settings.memory.write_ratio)
    memory = TwoTierMemory(settings.memory, threshold, node.vectors)
    alone = replace(
        node.interactions,
        offsets=np.array([0, len(history)]),
        items=history,
        user_ids=node.interactions.user_ids[:1],
    )
    memory.extend(history, losses_at(model, settings, alone, np.arange(len(history))))
    return memory.retrieve()[0]


def _near(ids: Ids, wanted: str) -> str:
    """A few ids that are most like the one that is not there."""
    texts = as_text(ids).tolist()
    if ids.dtype != object and re.fullmatch(r"-?[0-9]{1,300}", wanted):
        places = np.argsort(np.abs(ids - float(wanted)), kind="stable")[:LISTED]
        return ", ".join(texts[place] for place in np.sort(places))
    close = difflib.get_close_matches(wanted, texts, n=LISTED, cutoff=0.0)
    return ", ".join(close or texts[:LISTED])
