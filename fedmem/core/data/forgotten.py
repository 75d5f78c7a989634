"""What users had forgotten: interactions that no reader of histories at this node sees again.

The file of the interactions is its owner's, and is never written. So a node keeps a list of its
own, which is laid over every history that is read. It takes out interactions alone: users, their
indices and the catalogue stay, so that models go on to fit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import offsets_of
from fedmem.core.data.ids import as_text
from fedmem.core.data.interactions import Interactions, load
from fedmem.core.errors import FedmemError
from fedmem.core.files.atomic import replacing
from fedmem.core.settings import DataSettings

FILE = "forgotten.json"
Pair = tuple[str, str]
"""A user and an item, by the data's own ids, as text."""


@dataclass(frozen=True)
class Forgotten:
    """Pairs of users and items, in the order in which they were forgotten."""

    pairs: tuple[Pair, ...]

    @property
    def digest(self) -> str:
        """Hash of the list; empty where nothing was forgotten."""
        if not self.pairs:
            return ""
        return hashlib.sha256(json.dumps(self.pairs).encode()).hexdigest()[:16]

    def among(self, interactions: Interactions) -> npt.NDArray[np.bool_]:
        """[N] which of the interactions were forgotten."""
        users = _places(as_text(interactions.user_ids), np.flatnonzero(interactions.lengths))
        items = _places(as_text(interactions.item_ids), range(1, len(interactions.item_ids)))
        width = len(interactions.item_ids)
        gone = [
            users[user] * width + items[item]
            for user, item in self.pairs
            if user in users and item in items
        ]
        found: npt.NDArray[np.bool_] = np.isin(
            interactions.users * width + interactions.items, np.array(gone, dtype=np.int64)
        )
        return found


def forgotten_path(settings: DataSettings) -> Path:
    """Where the list is, or will be: beside the interactions, unless a setting points elsewhere."""
    folder = Path(settings.dir)
    if settings.forgotten_file is not None:
        return folder / settings.forgotten_file
    first = settings.path if isinstance(settings.path, str) else next(iter(settings.path), "")
    place = folder / first
    return (place if place.is_dir() else place.parent) / FILE


def read_forgotten(settings: DataSettings) -> Forgotten:
    """The list; empty where there is no file.

    Raises:
        FedmemError: it is damaged. To go on without it would bring back what was forgotten.
    """
    path = forgotten_path(settings)
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return Forgotten(tuple((str(each["user"]), str(each["item"])) for each in read))
    except (FileNotFoundError, NotADirectoryError):
        return Forgotten(())
    except OSError as error:
        raise FedmemError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise FedmemError(
            f"{path} is damaged: it lists what users had forgotten, as JSON.\n"
            "Mend it, or bring back a copy: without it all would be remembered again."
        ) from error


def forget(settings: DataSettings, user: str, item: str) -> Forgotten:
    """Add to the list, which is on the disk when this returns; the new list.

    Raises:
        FedmemError: the list that is there is damaged.
        OSError: the disk does not take it; the list before stays.
    """
    before = read_forgotten(settings)
    if (user, item) in before.pairs:
        return before
    after = Forgotten((*before.pairs, (user, item)))
    content = [{"user": user, "item": item} for user, item in after.pairs]
    with replacing(forgotten_path(settings)) as partial:
        partial.touch(mode=0o600)  # it names what nobody is to see
        partial.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", "utf-8")
    return after


def without(interactions: Interactions, gone: npt.NDArray[np.bool_]) -> Interactions:
    """The interactions less those [N] that are gone; users, their order and the items stay."""
    lengths = np.bincount(interactions.users[~gone], minlength=interactions.num_users)
    return replace(interactions, offsets=offsets_of(lengths), items=interactions.items[~gone])


def load_interactions(settings: DataSettings) -> Interactions:
    """The interactions that the settings describe, less those that were forgotten.

    Raises:
        FedmemError: as `load`, and where the list of what was forgotten is damaged.
    """
    whole, forgotten = load(settings).interactions, read_forgotten(settings)
    return without(whole, forgotten.among(whole)) if forgotten.pairs else whole


def _places(ids: npt.NDArray[np.generic], chosen: Iterable[int]) -> dict[str, int]:
    return {str(ids[place]): int(place) for place in chosen}
