"""Arms and stages less one another: paired over users, on the test items."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedmem.core.data import Interactions, load_content, load_histories
from fedmem.core.data.id_files import COLD, read_item_ids
from fedmem.core.errors import FedmemError, first_line
from fedmem.core.evaluation.protocol import Ranks
from fedmem.core.evaluation.slices import slices_of
from fedmem.core.evaluation.statistics import Difference, compare
from fedmem.core.settings import Settings
from fedmem.report.groups import RunGroup
from fedmem.report.pairing import Pairs, pair, same_data
from fedmem.report.runs import METRICS, RecordedRun
from fedmem.runs.folder import shown

SLICED = ("sampled/HR@10", "full/HR@10")
"""The metrics that are also looked at slice by slice."""
OF_COLD_ITEMS = ("cold_sampled/HR@10", "cold_full/HR@10")
"""The same on items that were kept from training, see `fedmem.core.evaluation.cold`."""


@dataclass(frozen=True)
class Contrast:
    """One arm, or one stage, less another, on the users and seeds that both have.

    Attributes:
        name: of the one.
        against: of the other.
        pairs: the users, in pairs.
        differences: over all of them, in each of `METRICS`.
        cold: over those who have a cold item, in each of `OF_COLD_ITEMS`; empty: none are kept from
            training, or one of the two has no content to rank them by.
        notes: who is in no pair, and among what else the two rank.
    """

    name: str
    against: str
    pairs: Pairs
    differences: list[Difference]
    cold: list[Difference]
    notes: list[str]

    @cached_property
    def slices(self) -> dict[str, list[Difference]]:
        """The differences in `SLICED` on parts of the users, by the slice's name.

        Cold items are a slice of their own, with `OF_COLD_ITEMS`.

        Raises:
            FedmemError: the data are not where they were, or are others now.
        """
        pairs = self.pairs
        parts = [
            {name: part[rows] for name, part in _slices_of(*source).items()}
            for source, rows in zip(pairs.sources, pairs.rows, strict=True)
        ]
        found = {}
        for name in dict.fromkeys(itertools.chain(*parts)):
            among = [
                part.get(name, np.zeros(len(rows), np.bool_))
                for part, rows in zip(parts, pairs.rows, strict=True)
            ]
            if differences := compare(pairs.ours, pairs.theirs, SLICED, among):
                found[name] = differences
        return found | ({"cold item": self.cold} if self.cold else {})


def _slices_of(run: RecordedRun, ranks: Ranks) -> dict[str, npt.NDArray[np.bool_]]:
    """Slices of one seed's users [U]; which items are cold, the seed decides."""
    try:
        own = Settings.from_dict(run.settings)
    except FedmemError as error:
        raise FedmemError(f"{run.folder} is of another version of fedmem: {error}") from error
    interactions, has_picture = load_histories(own).warm, None
    _require_data_of(run, ranks, own, interactions)
    pictures = own.data.visual_file
    if pictures and (Path(own.data.dir) / pictures).is_file():
        has_picture = np.asarray(load_content(own.data, interactions).visual.any(dim=1))
    return slices_of(interactions, ranks.users, has_picture)


def _require_data_of(
    run: RecordedRun, ranks: Ranks, settings: Settings, interactions: Interactions
) -> None:
    """Check that the data that are there now are those that the run had.

    Raises:
        FedmemError: they are others.
    """
    if run.people is not None:
        alike = run.people.are_of(settings)
    else:  # as of earlier versions
        alike = len(ranks.users) == 0 or int(ranks.users.max()) < interactions.num_users
    if not alike:
        raise FedmemError(
            f"the data in {settings.data.dir} are others than {shown(run.folder)} was trained on: "
            "say with --data-dir where those are"
        )


def find_contrasts(groups: Sequence[RunGroup], against: int) -> tuple[list[Contrast], list[str]]:
    """The last stage of each group less that of the one at this place, and notes on who is paired.

    Where no two groups compare, later stages of each less its first.
    """
    contrasts: list[Contrast] = []
    notes: list[str] = []
    base = groups[against]
    stages = {
        group.name: [s for s in group.stages() if group.ranks_of(s)] or [""] for group in groups
    }
    for group in groups:
        if group is not base:
            sides = (group, stages[group.name][-1]), (base, stages[base.name][-1])
            _append(contrasts, notes, group.name, base.name, *sides)
    if not contrasts:
        for group in groups:
            first, *later = stages[group.name]
            for stage in later:
                name = f"{stage}, {group.name}" if len(groups) > 1 else stage
                _append(contrasts, notes, name, first, (group, stage), (group, first))
    return contrasts, notes


Side = tuple[RunGroup, str]
"""A group after a stage."""


def _append(
    contrasts: list[Contrast], notes: list[str], name: str, against: str, ours: Side, theirs: Side
) -> None:
    """Compare two, or note why they cannot be."""
    try:
        contrasts.append(_compare(name, against, ours, theirs))
        found = contrasts[-1].notes
    except FedmemError as error:
        found = [first_line(error)]
    notes += [f"{name} less {against}: {note}" for note in found]


def _compare(name: str, against: str, ours: Side, theirs: Side) -> Contrast:
    """A group after a stage, less a group after a stage."""
    (group, stage), (base, base_stage) = ours, theirs
    warm = group.ranks_of(stage), base.ranks_of(base_stage)
    if not all(warm):
        raise FedmemError("no ranks of users were kept (simulation.keep_ranks)")
    pairs, cold = pair(*warm), []
    differences, notes = compare(pairs.ours, pairs.theirs, METRICS), _notes_on(pairs)
    of_cold = group.cold_ranks_of(stage), base.cold_ranks_of(base_stage)
    if all(of_cold):
        try:
            cold_pairs = pair(*of_cold, COLD)
            cold = compare(cold_pairs.ours, cold_pairs.theirs, OF_COLD_ITEMS)
        except FedmemError as error:
            notes.append(f"cold items: {first_line(error)}")
    return Contrast(name, against, pairs, differences, cold, notes)


def _notes_on(pairs: Pairs) -> list[str]:
    """Who is in no pair, and among what else the two rank."""
    notes: list[str] = []
    if pairs.left_out:
        listed = ", ".join(f"{count:,} {why}" for why, count in pairs.left_out.items())
        notes.append(f"{pairs.people:,} users are paired by their ids; left out: {listed}")
    one, other = pairs.sources[0].run, pairs.others[0].run
    drawn = [run.settings["evaluation"]["negatives"] for run in (one, other)]
    items = [read_item_ids(run.folder) for run in (one, other)]
    if drawn[0] != drawn[1]:
        notes.append(f"`sampled` ranks among {drawn[0]} and {drawn[1]} items drawn")
    elif not same_data(one, other):
        notes.append("their data differ, so `sampled` ranks among other items drawn")
    if items[0] is not None and items[1] is not None and len(items[0]) != len(items[1]):
        notes.append(f"`full` ranks among {len(items[0]):,} and {len(items[1]):,} items")
    return notes
