"""A set of runs, as the report looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from fedmem.core.errors import FedmemError, nearest
from fedmem.report.contrasts import Contrast, find_contrasts
from fedmem.report.groups import RunGroup, group_runs
from fedmem.report.runs import RecordedRun
from fedmem.runs.resume import how_to_go_on


class Spent(NamedTuple):
    """Rounds, and bytes of their messages and replies."""

    rounds: int
    bytes: int


@dataclass(frozen=True)
class Study:
    """A set of runs.

    Attributes:
        runs: all of them.
        groups: those of the same settings together.
        contrasts: groups less one of them, or stages less the first; none where no two compare.
        notes: what is to be known of how runs were joined and compared.
    """

    runs: list[RecordedRun]
    groups: list[RunGroup]
    contrasts: list[Contrast]
    notes: list[str]

    @classmethod
    def of(
        cls, runs: Sequence[RecordedRun], against: str | None = None, unread: Sequence[str] = ()
    ) -> Study:
        """Group runs by their settings, and compare the groups.

        Args:
            runs: in any order.
            against: name of the group that the others are compared with; None: the first.
            unread: notes on runs that could not be read.

        Raises:
            FedmemError: no run has ended a stage, or there is no such arm.
        """
        if not any(run.results for run in runs):
            first = runs[0]
            raise FedmemError(
                f"No stage has ended yet: {first.folder} {first.standing or 'has none'}.\n"
                f"{how_to_go_on(first.folder)}"
            )
        groups, notes = group_runs(runs)
        names = [group.name for group in groups]
        if against is not None and against not in names:
            meant = nearest(against, names)
            hint = f"did you mean {meant}? There are" if meant else "there are"
            listed = ", ".join(names)
            raise FedmemError(f"--against={against} is no arm of these runs: {hint} {listed}.")
        contrasts, reasons = find_contrasts(groups, names.index(against) if against else 0)
        return cls(list(runs), groups, contrasts, [*unread, *notes, *reasons])

    @property
    def made_with(self) -> list[str]:
        """Code, packages and machine of the runs, each once."""
        return list(dict.fromkeys(str(run.made_with) for run in self.runs if run.made_with))

    @cached_property
    def before(self) -> dict[tuple[Path, str], Spent]:
        """What was spent before each stage of each run, by (folder, stage).

        It is that of the run's own earlier stages, and of the run among these that made the
        checkpoint that it starts from.
        """
        at_end: dict[str, Spent] = {}
        found: dict[tuple[Path, str], Spent] = {}
        for run in sorted(self.runs, key=lambda run: len(run.hashes) - len(run.results)):
            own = {result["stage"] for result in run.results}
            parents = [hash_ for stage, hash_ in run.hashes.items() if stage not in own]
            spent = max((at_end.get(hash_, Spent(0, 0)) for hash_ in parents), default=Spent(0, 0))
            for stage in run.stages():
                found[run.folder, stage] = spent
                rounds = run.rounds_of(stage)
                spent = Spent(
                    spent.rounds + max((record["round"] for record in rounds), default=0),
                    spent.bytes + run.moved_in(stage),
                )
                if stage in own and stage in run.hashes:
                    at_end.setdefault(run.hashes[stage], spent)
        return found
