"""The arms of an experiment, and the runs that they come to."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from fedmem.core.data.id_files import read_users
from fedmem.core.errors import FedmemError
from fedmem.core.settings import Settings, flattened
from fedmem.runs.configuration import compose_experiment, compose_settings, pooled, quoted
from fedmem.runs.folder import RESULTS, STATE
from fedmem.runs.state import peek

COMMANDS = ("simulate", "centralised")
NOT_IDENTITY = (
    "output_dir",
    "data.dir",
    "checkpoint.",
    "simulation.",
    "tracking.",
    "run.",
    "federation.nodes",
    "client.execution",
    "client.micro_batch",
)
"""Settings of place and speed: runs that differ in nothing else are the same run."""


class Arm(NamedTuple):
    """One way of doing it.

    Attributes:
        command: one of `COMMANDS`.
        overrides: what is set for this arm, beside what all arms share.
        parents: arms whose checkpoints it starts from.
    """

    command: str
    overrides: list[str]
    parents: list[str]


class Condition(Enum):
    """How far a run has come."""

    MISSING = "begins"
    BROKEN_OFF = "goes on"
    DONE = "is done"
    STOPPED = "stopped itself"
    """Done, but a stage went wrong, as it would again."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to run."""
        return self in (Condition.DONE, Condition.STOPPED)


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """An arm with one seed.

    Attributes:
        folder: where it is, or will be.
        module: what is run.
        overrides: all of them, but for those of place.
        settings: what they come to.
        parents: runs that come before it.
    """

    arm: str
    seed: int
    folder: Path
    module: str
    overrides: tuple[str, ...]
    settings: Settings
    parents: tuple[PlannedRun, ...]

    @property
    def title(self) -> str:
        """Arm and seed, in a few words."""
        return f"{self.arm}, seed {self.seed}"

    def command(self) -> list[str]:
        """The command line that runs it, or lets it go on."""
        words = [sys.executable, "-m", self.module, override("hydra.run.dir", self.folder)]
        if self.condition() is Condition.BROKEN_OFF:
            return [*words, override("run.resume", self.folder)]
        parents = [
            override(f"checkpoint.{stage}", parent.checkpoints / f"{stage}.safetensors")
            for parent in self.parents
            for stage in parent.settings.stage
            if stage in vars(self.settings.checkpoint)
        ]
        return [*words, override("checkpoint.dir", self.checkpoints), *self.overrides, *parents]

    @property
    def checkpoints(self) -> Path:
        """Where it leaves its checkpoints."""
        return self.folder / "checkpoints"

    def condition(self) -> Condition:
        """How far it has come, by what lies in its folder.

        Raises:
            FedmemError: that is a run of other settings, or damaged.
        """
        path = self.folder / RESULTS
        if path.is_file():
            try:
                made = json.loads(path.read_text(encoding="utf-8"))
                self._require_alike(made["settings"])
                stopped = any(result["stopped"] for result in made["stages"])
            except (ValueError, KeyError, TypeError) as error:
                raise FedmemError(f"{path} is damaged: {type(error).__name__}, {error}.") from error
            return Condition.STOPPED if stopped else Condition.DONE
        state = peek(self.folder / STATE)
        if state is None or state.done:
            return Condition.MISSING
        self._require_alike(asdict(state.settings))
        return Condition.BROKEN_OFF

    def make_ready(self) -> None:
        """Make its folder; what cannot go on is thrown away.

        Raises:
            FedmemError: there can be no such folder.
        """
        if self.condition() is Condition.MISSING:
            shutil.rmtree(self.folder, ignore_errors=True)
            try:
                self.folder.mkdir(parents=True)
            except OSError as error:
                raise FedmemError(
                    f"{self.folder} can be no folder: {error.strerror}. Give --out another."
                ) from error

    def _require_alike(self, made: dict[str, Any]) -> None:
        """Check that it was made with these settings; those that came up since are passed over."""
        theirs = flattened(made)
        differing = [
            f"{key}={theirs[key]} (asked for: {value})"
            for key, value in flattened(asdict(self.settings)).items()
            if not key.startswith(NOT_IDENTITY) and theirs.get(key, value) != value
        ]
        if not differing and Path(theirs["data.dir"]) != Path(self.settings.data.dir).absolute():
            users = read_users(self.folder)
            if users is not None and not users.are_of(self.settings):
                differing = [f"data.dir={theirs['data.dir']}, with other histories"]
        if differing:
            raise FedmemError(
                f"{self.folder} holds a run of other settings: {', '.join(differing)}.\n"
                "Give --out another folder, or move that one away."
            )


@dataclass(frozen=True)
class Experiment:
    """Arms, and the seeds that each is run with.

    Attributes:
        name: of its file in `conf/experiment/`.
        against: the arm that the others are compared with.
        arms: by name, each after those it starts from.
        overrides: settings that the command line gives to all runs.
    """

    name: str
    seeds: list[int]
    against: str
    arms: dict[str, Arm]
    overrides: tuple[str, ...]

    def plan(
        self, folder: Path, seeds: Sequence[int], arms: Sequence[str] | None = None
    ) -> list[PlannedRun]:
        """The runs of these arms and of those that they start from, parents first.

        Raises:
            FedmemError: there is no such arm, or its settings do not fit.
        """
        for name in arms or ():
            if name not in self.arms:
                raise FedmemError(f"{self.name} has no arm {name!r}: {', '.join(self.arms)}.")
        wanted = set(self.arms if arms is None else arms)
        for name, arm in reversed(self.arms.items()):
            wanted |= set(arm.parents) if name in wanted else set()
        plans: dict[str, tuple[list[str], Settings]] = {}
        for name, arm in self.arms.items():
            if name in wanted:
                overrides = [f"experiment={self.name}", *arm.overrides, *self.overrides]
                settings = compose_settings(overrides)
                federated = arm.command == COMMANDS[0]
                plans[name] = overrides, settings if federated else pooled(settings)
        runs: list[PlannedRun] = []
        for seed in seeds:
            made: dict[str, PlannedRun] = {}
            for name, (overrides, settings) in plans.items():
                made[name] = PlannedRun(
                    arm=name,
                    seed=seed,
                    folder=folder / name / f"seed-{seed}",
                    module=f"fedmem.{self.arms[name].command}",
                    overrides=(*overrides, f"seed={seed}"),
                    settings=replace(settings, seed=seed),
                    parents=tuple(made[parent] for parent in self.arms[name].parents),
                )
            runs += made.values()
        return runs


def load_experiment(name: str, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment from `conf/experiment/`.

    Raises:
        FedmemError: there is none of this name, it has no arms, or they do not fit together.
    """
    values = compose_experiment(name, overrides)
    if not values.get("arms"):
        raise FedmemError(
            f"experiment={name} has no arms, it is one run: python -m fedmem.simulate "
            f"experiment={name}"
        )
    file = f"conf/experiment/{name}.yaml"
    arms: dict[str, Arm] = {}
    for arm, own in values["arms"].items():
        parents, command = own.get("from", []), own.get("command", COMMANDS[0])
        unknown = [parent for parent in parents if parent not in arms]
        if unknown or command not in COMMANDS:
            wrong = f"from {unknown[0]!r}" if unknown else f"command {command!r}"
            raise FedmemError(f"{file}: {arm} has {wrong}, which is not known.")
        arms[arm] = Arm(command, own.get("overrides", []), parents)
    if values["against"] not in arms:
        raise FedmemError(f"{file}: against={values['against']} is no arm.")
    return Experiment(name, values["seeds"], values["against"], arms, tuple(overrides))


def override(key: str, path: Path) -> str:
    """An override that Hydra reads as this path."""
    return f"{key}={quoted(str(path))}"
