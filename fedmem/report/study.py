"""Runs joined to arms: those that differ in nothing but the seed are one arm."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fedmem.errors import FedmemError
from fedmem.report.runs import Record, RecordedRun


@dataclass(frozen=True)
class Arm:
    """Runs of the same settings.

    Attributes:
        name: what tells it from the others.
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


@dataclass(frozen=True)
class Study:
    """A set of runs.

    Attributes:
        runs: all of them.
        arms: in the order in which their first runs were given.
        notes: what is to be known of how they were joined.
    """

    runs: list[RecordedRun]
    arms: list[Arm]
    notes: list[str]

    @classmethod
    def of(cls, runs: Sequence[RecordedRun]) -> Study:
        """Join runs to arms.

        An arm is called by its folder where its runs are in `<arm>/seed-<seed>`, else by the
        settings in which it differs from the others. Of two runs of the same settings and seed the
        one that has finished counts, of two such the latter.

        Raises:
            FedmemError: no run has ended a stage.
        """
        if not any(run.results for run in runs):
            first = runs[0]
            raise FedmemError(
                f"No stage has ended yet: {first.folder} {first.standing or 'has none'}.\n"
                f"Let it go on with: python -m fedmem.simulate run.resume={first.folder}"
            )
        alike: dict[str, list[RecordedRun]] = {}
        for run in runs:
            alike.setdefault(json.dumps(identity(run), sort_keys=True), []).append(run)
        notes: list[str] = []
        arms = [
            Arm(name, list(_one_a_seed(own, notes)))
            for name, own in zip(_names(list(alike.values())), alike.values(), strict=True)
        ]
        return cls(list(runs), arms, notes)

    @cached_property
    def first_rounds(self) -> dict[tuple[str, str], int]:
        """Rounds that came before each stage of each run, by (folder, stage).

        They are those of the run's own earlier stages, or of the run among these that made the
        checkpoint that it starts from.
        """
        made: dict[str, int] = {}
        offsets: dict[tuple[str, str], int] = {}
        for run in sorted(self.runs, key=lambda run: len(run.hashes) - len(run.results)):
            own = {result["stage"] for result in run.results}
            before = max(
                (made.get(value, 0) for stage, value in run.hashes.items() if stage not in own),
                default=0,
            )
            for stage in run.stages():
                offsets[str(run.folder), stage] = before
                before += max((r["round"] for r in run.rounds if r["stage"] == stage), default=0)
                if stage in run.hashes and stage in own:
                    made.setdefault(run.hashes[stage], before)
        return offsets


PLACES = ("output_dir", "checkpoint", "simulation", "tracking", "run", "data.dir")
"""Settings of place and speed, in which runs of one arm may differ."""
SPEED = ("federation.nodes", "client.execution", "client.micro_batch")


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their full names."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def identity(run: RecordedRun) -> dict[str, Any]:
    """The settings that make a run what it is, but for the seed."""
    left = (*PLACES, *SPEED)
    return {k: v for k, v in flat(run.settings) if k != "seed" and not k.startswith(left)}


def _names(arms: Sequence[Sequence[RecordedRun]]) -> list[str]:
    """What tells each arm from the others."""
    settings = [identity(runs[0]) for runs in arms]
    keys = list(dict.fromkeys(key for own in settings for key in own))
    differing = [k for k in keys if len({str(own.get(k)) for own in settings}) > 1]
    names = []
    for own, runs in zip(settings, arms, strict=True):
        folder = runs[0].folder
        if re.fullmatch(r"seed-\d+", folder.name):
            names.append(folder.parent.name)
        else:
            parts = [f"{key.split('.')[-1]}={_short(own.get(key))}" for key in differing]
            names.append(", ".join(parts) or str(own["data.name"]))
    if len(set(names)) < len(names):  # of two experiments
        names = [
            f"{name} ({runs[0].folder.parent})" if names.count(name) > 1 else name
            for name, runs in zip(names, arms, strict=True)
        ]
    return names


def _short(value: object) -> str:
    if value is None:
        return "all"
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _one_a_seed(runs: Sequence[RecordedRun], notes: list[str]) -> Iterator[RecordedRun]:
    by_seed: dict[int, RecordedRun] = {}
    for run in runs:
        other = by_seed.get(run.seed)
        if other is None or run.standing is None or other.standing is not None:
            by_seed[run.seed] = run
        if other is not None:
            kept = by_seed[run.seed]
            left = other if kept is run else run
            notes.append(f"{left.folder} is left out: {kept.folder} has the same settings and seed")
    for seed in sorted(by_seed):
        yield by_seed[seed]
