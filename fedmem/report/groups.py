"""Runs by their settings: those that differ in nothing but the seed are one group, an arm."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmem.core.settings import flattened
from fedmem.experiment.arms import NOT_IDENTITY
from fedmem.report.pairing import Ranked
from fedmem.report.runs import Record, RecordedRun
from fedmem.runs.folder import shown

CLIENTS = "federation.num_clients"
"""The setting that says how many take part; null: all."""


@dataclass(frozen=True)
class RunGroup:
    """Runs of the same settings and different seeds: an arm of an experiment, or any other.

    Attributes:
        name: unique among the arms.
        runs: by seed, one of each.
    """

    name: str
    runs: list[RecordedRun]

    def stages(self) -> list[str]:
        """Stages of its runs, in order."""
        return list(dict.fromkeys(stage for run in self.runs for stage in run.stages()))

    def results_of(self, stage: str) -> list[Record]:
        """What a stage came to, of the seeds that have ended it."""
        found = [run.result_of(stage) for run in self.runs]
        return [result for result in found if result is not None]

    def ranks_of(self, stage: str) -> dict[int, Ranked]:
        """Ranks of the users on the test items after a stage, by seed; of seeds that kept them."""
        return {run.seed: Ranked(run, run.ranks[stage]) for run in self.runs if stage in run.ranks}

    def cold_ranks_of(self, stage: str) -> dict[int, Ranked]:
        """The same on cold items, of seeds whose stage has content to rank them by."""
        kept = [run for run in self.runs if stage in run.cold_ranks]
        found = {run.seed: Ranked(run, run.cold_ranks[stage]) for run in kept}
        return {seed: own for seed, own in found.items() if "cold_full" in own.ranks.ranks}


def group_runs(runs: Sequence[RecordedRun]) -> tuple[list[RunGroup], list[str]]:
    """The groups of these runs in the order of their first, and notes on what was left out.

    Runs of a group have the same data too, by their hash. It is called by its folder where its runs
    are in `<arm>/seed-<seed>`, else by the settings in which it differs from the others. Of two
    runs of the same settings and seed the one that has finished counts, of two such the latter.
    """
    alike: dict[tuple[Path | None, str], list[RecordedRun]] = {}
    now_known = {run.place: run.data for run in runs if run.data != run.place}
    for run in runs:
        what = identity(run), now_known.get(run.data, run.data)
        key = _experiment_arm(run), json.dumps(what, sort_keys=True)
        alike.setdefault(key, []).append(run)
    notes: list[str] = []
    groups = [
        RunGroup(name, _one_a_seed(own, notes))
        for name, own in zip(_names(list(alike.values())), alike.values(), strict=True)
    ]
    return groups, notes


def identity(run: RecordedRun) -> dict[str, Any]:
    """The settings that make a run what it is, but for the seed."""
    return {
        key: value
        for key, value in flattened(run.settings).items()
        if key != "seed" and not key.startswith(NOT_IDENTITY)
    }


def _experiment_arm(run: RecordedRun) -> Path | None:
    """The folder of the arm that an experiment has made this run for; None: it is of none."""
    return run.folder.parent if re.fullmatch(r"seed-\d+", run.folder.name) else None


def _names(groups: Sequence[Sequence[RecordedRun]]) -> list[str]:
    """A name for each group, all different."""
    firsts = [runs[0] for runs in groups]
    folders, distinctions = [_experiment_arm(run) for run in firsts], _distinctions(firsts)
    names = [
        folder.name if folder else own or str(run.settings["data"]["name"])
        for run, folder, own in zip(firsts, folders, distinctions, strict=True)
    ]
    for name in {name for name in names if names.count(name) > 1}:
        alike = [place for place, other in enumerate(names) if other == name]
        ours = [firsts[place] for place in alike]
        further = zip(_distinctions(ours), _places(ours), strict=True)
        for place, (more, where) in zip(alike, further, strict=True):
            names[place] = f"{name} ({more or shown(where)})"
    return names


def _places(runs: Sequence[RecordedRun]) -> list[str]:
    """Of each run the place that is no other's: of its arm, its data, or itself."""
    folders = [str(run.folder) for run in runs]
    for places in ([str(run.folder.parent) for run in runs], [run.place for run in runs]):
        if len(set(places)) == len(places):
            return places
    return folders


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys in which settings differ, where they have them."""
    keys = dict.fromkeys(itertools.chain(*settings))
    return [key for key in keys if len({str(own[key]) for own in settings if key in own}) > 1]


def _distinctions(runs: Sequence[RecordedRun]) -> list[str]:
    """Of each run the settings in which they differ; nothing where they do not."""
    settings = [identity(run) for run in runs]
    keys = differing(settings)
    return [
        ", ".join(f"{key.split('.')[-1]}={_short(key, own.get(key))}" for key in keys)
        for own in settings
    ]


def _short(key: str, value: object) -> str:
    if value is None:
        return "all" if key == CLIENTS else "null"
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _one_a_seed(runs: Sequence[RecordedRun], notes: list[str]) -> list[RecordedRun]:
    kept: dict[int, RecordedRun] = {}
    for run in runs:
        other = kept.setdefault(run.seed, run)
        if other is not run:
            better, left = sorted((run, other), key=lambda each: each.standing is not None)
            kept[run.seed] = better
            reason = f"{better.folder} has the same settings and seed"
            notes.append(f"{left.folder} is left out: {reason}")
    return [kept[seed] for seed in sorted(kept)]
