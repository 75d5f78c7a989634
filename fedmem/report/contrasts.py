"""Arms and stages less one another: paired over users, on the test items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedmem.core.data import Interactions, load_content, load_histories
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
        for name in dict.fromkeys(name for part in parts for name in part):
            among = [
                part.get(name, np.zeros(len(ranks.users), np.bool_))
                for part, ranks in zip(parts, self.ours, strict=True)
            ]
            if differences := compare(self.ours, self.theirs, SLICED, among):
                found[name] = differences
        return found | ({"cold item": self.cold} if self.cold else {})

    def _slices_of(
        self, settings: dict[str, object], users: npt.NDArray[np.integer]
    ) -> dict[str, npt.NDArray[np.bool_]]:
        """Slices of one seed's users [U]; which items are cold, the seed decides."""
        try:
            own = Settings.from_dict(settings)
        except FedmemError as error:
            raise FedmemError(f"{self.name} is of another version of fedmem: {error}") from error
        interactions = load_histories(own).warm
        return slices_of(interactions, users, _has_picture(own, interactions))


def _has_picture(settings: Settings, interactions: Interactions) -> npt.NDArray[np.bool_] | None:
    """[I + 1] items that have one; None where the data have no pictures here."""
    file = settings.data.visual_file
    if file is None or not (Path(settings.data.dir) / file).is_file():
        return None
    visual = load_content(settings.data, interactions).visual
    found: npt.NDArray[np.bool_] = visual.any(dim=1).numpy()
    return found


def find_contrasts(groups: Sequence[RunGroup], against: int) -> tuple[list[Contrast], list[str]]:
    """The last stage of each group less that of one of them; else later stages less the first.

    Args:
        groups: all of them.
        against: the place of the one that the others are compared with.

    Returns:
        The contrasts, and why groups were left out.
    """
    contrasts: list[Contrast] = []
    reasons: list[str] = []
    base = groups[against]
    for group in groups:
        if group is not base:
            try:
                contrasts.append(_contrast(group.name, base.name, group, base))
            except FedmemError as error:
                reasons.append(f"{group.name} less {base.name}: {first_line(error)}")
    if not contrasts:
        for group in groups:
            contrasts += _stages(group, group.name if len(groups) > 1 else "")
    return contrasts, reasons


def _contrast(name: str, against: str, group: RunGroup, base: RunGroup) -> Contrast:
    stages = [each.stages_with_ranks()[-1:] for each in (group, base)]
    if not all(stages):
        raise FedmemError("no ranks of users were kept (simulation.keep_ranks)")
    return _compare(name, against, group, stages[0][0], base, stages[1][0])


def _stages(group: RunGroup, prefix: str) -> Iterator[Contrast]:
    first, *later = group.stages_with_ranks() or [""]
    for stage in later:
        name = f"{stage}, {prefix}" if prefix else stage
        yield _compare(name, first, group, stage, group, first)


def _compare(
    name: str, against: str, group: RunGroup, stage: str, base: RunGroup, base_stage: str
) -> Contrast:
    ours, theirs = group.ranks_of(stage), base.ranks_of(base_stage)
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        raise FedmemError("they have no seed in common")
    mine, yours = [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]
    return Contrast(
        name=name,
        against=against,
        settings=[run.settings for run in group.runs if run.seed in seeds],
        ours=mine,
        theirs=yours,
        differences=compare(mine, yours, METRICS),
        cold=_cold_differences(group.cold_ranks_of(stage), base.cold_ranks_of(base_stage)),
    )


def _cold_differences(ours: dict[int, Ranks], theirs: dict[int, Ranks]) -> list[Difference]:
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return []
    return compare([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds], OF_COLD_ITEMS)
