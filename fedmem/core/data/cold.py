"""Cold items: a share of the items is kept from training, to see what content alone is worth."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import Places, UserIndices, offsets_of
from fedmem.core.data.forgotten import Forgotten, read_forgotten, without
from fedmem.core.data.interactions import Interactions, load
from fedmem.core.errors import FedmemError
from fedmem.core.settings import DataSettings, Settings


@dataclass(frozen=True)
class Histories:
    """Interactions with warm items, and those with cold ones; users alike in both."""

    warm: Interactions
    """What a run knows: the same as if the file had no line of a cold item."""
    cold: Interactions
    """What only the cold evaluation looks at; its catalogue is that of the cold items alone."""
    before: npt.NDArray[np.int64]
    """[N] of each of the cold interactions: its user's warm interactions before it."""
    forgotten: str = ""
    """`Forgotten.digest` of what was left out of them."""

    def latest_cold(self, users: UserIndices) -> tuple[UserIndices, Places]:
        """The users who have a cold interaction with something warm before it, and the place in
        `cold.items` of the latest [n].
        """
        users = users[self.cold.lengths[users] > 0]
        places = self.cold.offsets[users + 1] - 1
        known = self.before[places] > 0
        return users[known], places[known]


def load_histories(settings: Settings) -> Histories:
    """The interactions of a run, without and with the items that `evaluation.cold_items` takes out.

    Users who are left with fewer than `data.min_interactions` warm interactions are dropped; those
    who had so many and had some forgotten stay.

    Raises:
        FedmemError: as `load_interactions`, and where no item is cold or nobody is left.
    """
    share, forgotten = settings.evaluation.cold_items, read_forgotten(settings.data)
    return _load_histories(settings.data, share, settings.seed, forgotten)


@functools.lru_cache(maxsize=2)
def _load_histories(
    settings: DataSettings, share: float, seed: int, forgotten: Forgotten
) -> Histories:
    found = histories_of_files(settings, share, seed)
    return _remembered(found, forgotten) if forgotten.pairs else found


def _remembered(histories: Histories, forgotten: Forgotten) -> Histories:
    """Histories less what was forgotten."""
    warm, cold = histories.warm, histories.cold
    warm_gone, cold_gone = forgotten.among(warm), forgotten.among(cold)
    gone_before = offsets_of(warm_gone)
    first = warm.offsets[cold.users]
    before = histories.before - (gone_before[first + histories.before] - gone_before[first])
    return Histories(
        without(warm, warm_gone), without(cold, cold_gone), before[~cold_gone], forgotten.digest
    )


def histories_of_files(settings: DataSettings, share: float, seed: int) -> Histories:
    """`load_histories` before anything was forgotten."""
    interactions = load(settings).interactions
    is_cold = drawn_cold(interactions.item_ids, share, seed)
    whole = settings.catalogue_file is not None
    lengths = interactions.lengths
    if not share and ((lengths >= settings.min_interactions) | (lengths == 0)).all():
        return _all_warm(interactions)
    found = part(interactions, is_cold, settings.min_interactions, whole)
    if not len(found.warm.items):
        raise FedmemError(
            f"evaluation.cold_items={share} leaves no user of data={settings.name} with "
            f"{settings.min_interactions} interactions: lower it."
        )
    if share and not len(found.cold.items):
        raise FedmemError(
            f"evaluation.cold_items={share} takes out none of the {interactions.num_items} items "
            f"of data={settings.name}: raise it, or leave it at 0."
        )
    return found


def _all_warm(interactions: Interactions) -> Histories:
    """As `part` where no item is cold and all users stay, without copies of what may be large."""
    nothing = replace(
        interactions,
        offsets=np.zeros_like(interactions.offsets),
        items=interactions.items[:0],
        item_ids=interactions.item_ids[:1],
    )
    return Histories(interactions, nothing, np.zeros(0, dtype=np.int64))


def drawn_cold(item_ids: npt.NDArray[np.generic], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Whether an item [I + 1] is cold: a matter of the seed and its own id alone; never entry 0."""
    if not share:
        return np.zeros(len(item_ids), dtype=np.bool_)
    digests = (hashlib.sha256(f"{seed} {own}".encode()).digest() for own in item_ids[1:].tolist())
    drawn = (int.from_bytes(digest[:8], "big") < share * 2.0**64 for digest in digests)
    return np.array([False, *drawn])


def part(
    interactions: Interactions,
    is_cold: npt.NDArray[np.bool_],
    min_interactions: int,
    whole: bool = False,
) -> Histories:
    """Part interactions by their items, [I + 1]; users with too few warm ones are dropped.

    Users without any live at other nodes and stay, so that indices mean the same at all nodes.
    `whole` catalogues keep items that nobody here has touched.
    """
    users = interactions.users
    cold = is_cold[interactions.items]
    kept = np.bincount(users[~cold], minlength=interactions.num_users) >= min_interactions
    # Warm interactions before each one, counted from the start of its user's history.
    warm_before = offsets_of(~cold)
    before = warm_before[:-1] - warm_before[interactions.offsets[users]]
    kept |= interactions.lengths == 0
    chosen = kept[users]
    return Histories(
        _of(interactions, ~cold & chosen, kept, ~is_cold & whole),
        _of(interactions, cold & chosen, kept, is_cold & whole),
        before[cold & chosen],
    )


def _of(
    interactions: Interactions,
    of_interactions: npt.NDArray[np.bool_],
    of_users: npt.NDArray[np.bool_],
    of_items: npt.NDArray[np.bool_],
) -> Interactions:
    """The chosen interactions [N] and users [U], with a catalogue of the items in them and of those
    chosen [I + 1].
    """
    of_items = of_items.copy()
    of_items[interactions.items[of_interactions]] = True
    of_items[0] = False  # padding
    items = np.flatnonzero(of_items)
    dense = np.searchsorted(items, interactions.items[of_interactions])
    users = interactions.users[of_interactions]
    lengths = np.bincount(users, minlength=interactions.num_users)[of_users]
    return replace(
        interactions,
        offsets=offsets_of(lengths),
        items=(dense + 1).astype(np.int32),
        item_ids=interactions.item_ids[np.concatenate([[0], items])],
        user_ids=interactions.user_ids[of_users],
    )
