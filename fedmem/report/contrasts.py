"""Arms and stages less one another: paired over users, on the test items."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedmem.core.arrays import UserIndices
from fedmem.core.data import load_content, load_histories
from fedmem.core.errors import FedmemError, first_line
from fedmem.core.evaluation.protocol import Ranks
from fedmem.core.evaluation.slices import slices_of
from fedmem.core.evaluation.statistics import Difference, compare
from fedmem.core.settings import Settings
from fedmem.report.groups import RunGroup
from fedmem.report.runs import METRICS

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
        settings: of the one's runs, by seed, as nested dictionaries.
        ours: ranks of the one, by seed.
        theirs: ranks of the other, of the same seeds.
        differences: over all users, in each of `METRICS`.
        cold: over the users who have a cold item, in each of `OF_COLD_ITEMS`; empty: none are kept
            from training, or one of the two has no content to rank them by.
    """

    name: str
    against: str
    settings: list[dict[str, object]]
    ours: list[Ranks]
    theirs: list[Ranks]
    differences: list[Difference]
    cold: list[Difference]

    @cached_property
    def slices(self) -> dict[str, list[Difference]]:
        """The differences in `SLICED` on parts of the users, by the slice's name.

        Cold items are a slice of their own, with `OF_COLD_ITEMS`.

        Raises:
            FedmemError: the data are not where they were.
        """
        parts = [self._slices_of(s, r.users) for s, r in zip(self.settings, self.ours, strict=True)]
        found = {}
        for name in dict.fromkeys(itertools.chain(*parts)):
            among = [
                part.get(name, np.zeros(len(ranks.users), np.bool_))
                for part, ranks in zip(parts, self.ours, strict=True)
            ]
            if differences := compare(self.ours, self.theirs, SLICED, among):
                found[name] = differences
        return found | ({"cold item": self.cold} if self.cold else {})

    def _slices_of(
        self, settings: dict[str, object], users: UserIndices
    ) -> dict[str, npt.NDArray[np.bool_]]:
        """Slices of one seed's users [U]; which items are cold, the seed decides."""
        try:
            own = Settings.from_dict(settings)
        except FedmemError as error:
            raise FedmemError(f"{self.name} is of another version of fedmem: {error}") from error
        interactions, has_picture = load_histories(own).warm, None
        pictures = own.data.visual_file
        if pictures and (Path(own.data.dir) / pictures).is_file():
            has_picture = np.asarray(load_content(own.data, interactions).visual.any(dim=1))
        return slices_of(interactions, users, has_picture)


def find_contrasts(groups: Sequence[RunGroup], against: int) -> tuple[list[Contrast], list[str]]:
    """The last stage of each group less that of the one at this place, and why some are left out.

    Where no two groups compare, later stages of each less its first.
    """
    contrasts: list[Contrast] = []
    reasons: list[str] = []
    base = groups[against]
    stages = {
        group.name: [s for s in group.stages() if group.ranks_of(s)] or [""] for group in groups
    }
    for group in groups:
        if group is not base:
            sides = (group, stages[group.name][-1]), (base, stages[base.name][-1])
            try:
                contrasts.append(_compare(group.name, base.name, *sides))
            except FedmemError as error:
                reasons.append(f"{group.name} less {base.name}: {first_line(error)}")
    if not contrasts:
        for group in groups:
            first, *later = stages[group.name]
            for stage in later:
                name = f"{stage}, {group.name}" if len(groups) > 1 else stage
                contrasts.append(_compare(name, first, (group, stage), (group, first)))
    return contrasts, reasons


def _compare(
    name: str, against: str, ours: tuple[RunGroup, str], theirs: tuple[RunGroup, str]
) -> Contrast:
    """A group after a stage, less a group after a stage."""
    (group, stage), (base, base_stage) = ours, theirs
    warm = group.ranks_of(stage), base.ranks_of(base_stage)
    if not all(warm):
        raise FedmemError("no ranks of users were kept (simulation.keep_ranks)")
    seeds, mine, yours = _paired(*warm)
    if not seeds:
        raise FedmemError("they have no seed in common")
    _, my_cold, your_cold = _paired(group.cold_ranks_of(stage), base.cold_ranks_of(base_stage))
    return Contrast(
        name=name,
        against=against,
        settings=[run.settings for run in group.runs if run.seed in seeds],
        ours=mine,
        theirs=yours,
        differences=compare(mine, yours, METRICS),
        cold=compare(my_cold, your_cold, OF_COLD_ITEMS) if my_cold else [],
    )


def _paired(
    ours: dict[int, Ranks], theirs: dict[int, Ranks]
) -> tuple[list[int], list[Ranks], list[Ranks]]:
    """The seeds that both have, and the ranks of either in their order."""
    seeds = sorted(ours.keys() & theirs.keys())
    return seeds, [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]
