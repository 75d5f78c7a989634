"""Who is compared with whom: users in pairs by the data's own ids, tested on the same item.

An index means somebody else wherever data, filters or cold items differ. Where a run of an earlier
version has no ids, the users of runs of the same file and filters are paired by their indices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from fedmem.core.data.id_files import TEST
from fedmem.core.data.ids import as_text
from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.protocol import Ranks
from fedmem.core.settings import flattened
from fedmem.report.runs import RecordedRun
from fedmem.runs.folder import shown

COLD_ITEMS = "evaluation.cold_items"
NOT_WHO = ("data.dir", "data.name", "data.visual_file", "data.text_file")
"""Settings of the data that do not change who the users are and what they are tested on."""


class Ranked(NamedTuple):
    """A run, and ranks of its users after a stage."""

    run: RecordedRun
    ranks: Ranks


@dataclass(frozen=True)
class Pairs:
    """The users of two arms in pairs, by seed; rows of both sides are the same users'.

    Attributes:
        ours: ranks of the one, by seed; a user has one number in all of them.
        theirs: ranks of the other.
        rows: by seed, [u] where the users of `ours` stand among all of the one's.
        sources: by seed, the one's run and all of its ranks.
        others: the same of the other.
        left_out: people who are in no pair, by the reason.
    """

    ours: list[Ranks]
    theirs: list[Ranks]
    rows: list[npt.NDArray[np.intp]]
    sources: list[Ranked]
    others: list[Ranked]
    left_out: dict[str, int]

    @property
    def people(self) -> int:
        """How many are in a pair, each once."""
        return len(np.unique(np.concatenate([ranks.users for ranks in self.ours])))


def same_data(one: RecordedRun, other: RecordedRun) -> bool:
    """Whether two runs of one seed have the same users with the same histories, in one order.

    Of earlier versions, which wrote no hash, they have where file and filters are the same.
    """
    mine, yours = _data_settings(one), _data_settings(other)
    if one.people and other.people and one.people.data and other.people.data:
        all_warm = not mine[COLD_ITEMS] and not yours[COLD_ITEMS]
        return one.people.data == other.people.data and (all_warm or mine == yours)
    return one.place == other.place and mine == yours


def _data_settings(run: RecordedRun) -> dict[str, object]:
    """The settings that decide who a run's users are and what they are tested on."""
    flat = flattened(run.settings)
    own = {k: v for k, v in flat.items() if k.startswith("data.") and not k.startswith(NOT_WHO)}
    return own | {COLD_ITEMS: flat.get(COLD_ITEMS) or 0}


def pair(ours: Mapping[int, Ranked], theirs: Mapping[int, Ranked], tested_on: str = TEST) -> Pairs:
    """The users that both sides have with a seed, tested on the same item, in pairs.

    Args:
        ours: the one side, by seed.
        theirs: the other; seeds of one side alone are left out.
        tested_on: which item the ranks are of, as `RecordedUsers` has it.

    Raises:
        FedmemError: no seed or no user is of both, it is not known who the users are, or most of
            those with the same id are tested on another item.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        raise FedmemError("they have no seed in common")
    sides = [[side[seed] for seed in seeds] for side in (ours, theirs)]
    numbers = _numbers([*sides[0], *sides[1]])
    mine, yours, rows = [], [], []
    seen, paired, asked_otherwise = set(), set(), set()
    for one, other, our_numbers, their_numbers in zip(
        *sides, numbers[: len(seeds)], numbers[len(seeds) :], strict=True
    ):
        users, our_rows, their_rows = np.intersect1d(
            our_numbers, their_numbers, assume_unique=True, return_indices=True
        )
        alike = _tested_alike(one, our_rows, other, their_rows, tested_on)
        seen |= {*our_numbers.tolist(), *their_numbers.tolist()}
        paired |= set(users[alike].tolist())
        asked_otherwise |= set(users[~alike].tolist())
        mine.append(_rows_of(one.ranks, our_rows[alike], users[alike]))
        yours.append(_rows_of(other.ranks, their_rows[alike], users[alike]))
        rows.append(our_rows[alike])
    asked_otherwise -= paired
    if len(asked_otherwise) > len(paired):
        both = len(paired) + len(asked_otherwise)
        raise FedmemError(
            f"Of {both:,} users with the same id {len(asked_otherwise):,} have another test item: "
            "these are other data, which cannot be compared in pairs."
        )
    if not paired:
        raise FedmemError("Two arms of different users cannot be compared in pairs.")
    left_out = {
        "of one of the two alone": len(seen) - len(paired) - len(asked_otherwise),
        "with another test item": len(asked_otherwise),
    }
    given = {reason: count for reason, count in left_out.items() if count}
    return Pairs(mine, yours, rows, sides[0], sides[1], given)


def _numbers(sides: Sequence[Ranked]) -> list[npt.NDArray[np.int64]]:
    """[U] a number for each user of each of these ranks, the same for the same person.

    Raises:
        FedmemError: it is not known who they are.
    """
    if all(side.run.people for side in sides):
        names = [as_text(s.run.people.ids[s.ranks.users]) for s in sides if s.run.people]
        ends = np.cumsum([len(own) for own in names])[:-1]
        return np.split(pd.factorize(np.concatenate(names))[0], ends)
    first = sides[0].run
    unknown = next(side.run for side in sides if not side.run.people)
    drawn_anew = _data_settings(first)[COLD_ITEMS] and len({side.run.seed for side in sides}) > 1
    if drawn_anew or not all(same_data(first, side.run) for side in sides):
        raise FedmemError(
            f"{shown(unknown.folder)} has no users.parquet, so nobody knows who its users are "
            "among those of other data or filters: they cannot be compared in pairs."
        )
    return [side.ranks.users.astype(np.int64) for side in sides]


def _tested_alike(
    one: Ranked,
    our_rows: npt.NDArray[np.intp],
    other: Ranked,
    their_rows: npt.NDArray[np.intp],
    tested_on: str,
) -> npt.NDArray[np.bool_]:
    """[u] whether users in these rows [u] are tested on the same item by both runs.

    Raises:
        FedmemError: it is not known what they are tested on.
    """
    found = [
        side.run.people.tested_on[tested_on][side.ranks.users[rows]]
        for side, rows in ((one, our_rows), (other, their_rows))
        if side.run.people and tested_on in side.run.people.tested_on
    ]
    if len(found) == 2:
        return np.asarray(found[0] == found[1])
    if one.run is not other.run and not same_data(one.run, other.run):
        raise FedmemError(
            "A run of an earlier version did not write what its users were tested on: it can be "
            "compared with runs of the same file and filters only."
        )
    return np.ones(len(our_rows), np.bool_)


def _rows_of(ranks: Ranks, rows: npt.NDArray[np.intp], users: npt.NDArray[np.int64]) -> Ranks:
    """The rows [u] of ranks, of users that are numbered like this [u]."""
    chosen = {name: own[rows] for name, own in ranks.ranks.items()}
    return Ranks(users.astype(np.int32), chosen)
