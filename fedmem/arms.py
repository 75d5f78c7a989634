"""The arms of an experiment, and the runs that they come to."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fedmem.configuration import compose_group, compose_settings
from fedmem.errors import FedmemError
from fedmem.settings import Settings

COMMANDS = ("simulate", "centralised")
STATE = Path("state") / "last.safetensors"
"""What a run that can go on has in its folder."""

NOT_IDENTITY = (
    "output_dir",
    "data.dir",
    "checkpoint",
    "simulation",
    "tracking",
    "run",
    "federation.nodes",
    "client.execution",
    "client.micro_batch",
)
"""Settings of place and speed: runs that differ in nothing else are the same run."""


@dataclass(frozen=True)
class Arm:
    """One way of doing it.

    Attributes:
        command: one of `COMMANDS`.
        overrides: what is set for this arm, beside what all arms share.
        parents: arms whose checkpoints it starts from.
    """

    command: str
    overrides: list[str]
    parents: list[str]


@dataclass(frozen=True)
class PlannedRun:
    """An arm with one seed.

    Attributes:
        arm: its name.
        seed: its seed.
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

    def __hash__(self) -> int:
        return hash(self.folder)

    @property
    def title(self) -> str:
        """Arm and seed, in a few words."""
        return f"{self.arm}, seed {self.seed}"

    def command(self) -> list[str]:
        """The command line that runs it, or lets it go on."""
        places = [
            f"hydra.run.dir={self.folder}",
            f"checkpoint.dir={self.folder / 'checkpoints'}",
            *(
                f"checkpoint.{stage}={parent.folder / 'checkpoints' / stage}.safetensors"
                for parent in self.parents
                for stage in parent.settings.stages
                if stage in vars(self.settings.checkpoint)
            ),
        ]
        if (self.folder / STATE).is_file():
            places.append(f"run.resume={self.folder}")
        return [sys.executable, "-m", self.module, *self.overrides, *places]

    def is_done(self) -> bool:
        """Whether its results are there.

        Raises:
            FedmemError: they are, but of other settings.
        """
        path = self.folder / "results.json"
        if not path.is_file():
            return False
        try:
            made = json.loads(path.read_text())["settings"]
        except (ValueError, KeyError) as error:
            raise FedmemError(f"{path} cannot be read: {error}.") from error
        ours, theirs = identity(asdict(self.settings)), identity(made)
        differing = [
            f"{key}={theirs.get(key)} (asked for: {ours.get(key)})"
            for key in sorted(ours.keys() | theirs.keys())
            if ours.get(key) != theirs.get(key)
        ]
        if differing:
            raise FedmemError(
                f"{self.folder} holds a run of other settings: {', '.join(differing)}.\n"
                "Give --out another folder, or move that one away."
            )
        return True

    def begin(self) -> str:
        """Make its folder ready; what is about to happen, in a word or two."""
        if (self.folder / STATE).is_file():
            return "goes on"
        begun = self.folder.exists()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return "begins again" if begun else "begins"


@dataclass(frozen=True)
class Experiment:
    """Arms, and the seeds that each is run with.

    Attributes:
        name: of its file in `conf/experiment/`.
        seeds: of its runs.
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
        composed = {name: compose_settings(self._overrides(name)) for name in wanted}
        runs: list[PlannedRun] = []
        for seed in seeds:
            made: dict[str, PlannedRun] = {}
            for name, arm in self.arms.items():
                if name in wanted:
                    made[name] = PlannedRun(
                        arm=name,
                        seed=seed,
                        folder=folder / name / f"seed-{seed}",
                        module=f"fedmem.{arm.command}",
                        overrides=(*self._overrides(name), f"seed={seed}"),
                        settings=replace(composed[name], seed=seed),
                        parents=tuple(made[parent] for parent in arm.parents),
                    )
            runs += made.values()
        return runs

    def _overrides(self, arm: str) -> list[str]:
        return [f"experiment={self.name}", *self.arms[arm].overrides, *self.overrides]


def load_experiment(name: str, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment from `conf/experiment/`.

    Raises:
        FedmemError: there is none of this name, it has no arms, or they do not fit together.
    """
    values = compose_group(name, overrides)
    if not values.get("arms"):
        raise FedmemError(
            f"experiment={name} has no arms, it is one run: python -m fedmem.simulate "
            f"experiment={name}"
        )
    arms: dict[str, Arm] = {}
    for arm, own in values["arms"].items():
        parents, command = own.get("from", []), own.get("command", COMMANDS[0])
        unknown = [parent for parent in parents if parent not in arms]
        if unknown or command not in COMMANDS:
            wrong = f"from {unknown[0]!r}" if unknown else f"command {command!r}"
            raise FedmemError(
                f"conf/experiment/{name}.yaml: {arm} has {wrong}, which is not known."
            )
        arms[arm] = Arm(command, own.get("overrides", []), parents)
    if values["against"] not in arms:
        raise FedmemError(f"conf/experiment/{name}.yaml: against={values['against']} is no arm.")
    return Experiment(name, values["seeds"], values["against"], arms, tuple(overrides))


def identity(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by their full names, without those of place and speed."""
    flat = {
        f"{key}.{own}" if isinstance(value, dict) else key: each
        for key, value in settings.items()
        for own, each in (value.items() if isinstance(value, dict) else [("", value)])
    }
    return {k: v for k, v in flat.items() if not k.startswith(NOT_IDENTITY)}
