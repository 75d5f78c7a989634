"""What a run is after a round: all that it needs to go on as if it had never been stopped.

Who trains in a round follows from seed, stage and round, so the sampler has no state; what a node
remembers of its users is kept at the node (`fedmem/core/memory/memory_store.py`).
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fedmem.core.errors import FedmemError
from fedmem.core.files.sealed import load_sealed, of_another_version, save_sealed
from fedmem.core.model.parameters import Parameters
from fedmem.core.settings import Settings

LAST = "last.safetensors"


@dataclass(frozen=True)
class StageState:
    """What a round of a stage ends in.

    Attributes:
        stage: name of the stage.
        round: the round that has ended.
        parameters: of the scope, after it.
        optimizer: the server optimizer's arrays, by name.
        best_round: the best round by validation so far; 0: none, or what the stage started from.
        best_validation: metrics of that round; empty: no validation yet.
        best: the scope's parameters after it; None: no validation yet.
        since_best: validations since.
        cut_after: the round in which its patience ran out; None: it has not.
        lowest_loss: of the rounds so far; None: none has trained.
        usual: (median norm, median users) of the replies of the latest rounds.
        threshold: novelty threshold of the memory; None where it is off.
        trouble: why the stage had to stop after this round; None: it had not.
    """

    stage: str
    round: int
    parameters: Parameters = field(repr=False)
    optimizer: Parameters = field(repr=False)
    best_round: int
    best_validation: dict[str, float]
    best: Parameters | None = field(repr=False)
    since_best: int
    cut_after: int | None
    lowest_loss: float | None
    usual: list[list[float]]
    threshold: float | None
    trouble: str | None


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Attributes:
        settings: as they were asked for, its paths absolute.
        overrides: what was asked for on the command line.
        nodes: simulated nodes that share the users, which `settings` may leave open; 0: real ones.
        stage: the stage under way; None: no round of it has ended.
        results: of the stages that are finished, as dictionaries.
        checkpoints: content hash of every checkpoint that the run made or started from, by stage.
        metrics_bytes: where `metrics.jsonl` ends.
        done: nothing is left to do.
    """

    settings: Settings
    overrides: list[str]
    nodes: int
    stage: StageState | None = None
    results: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: dict[str, str] = field(default_factory=dict)
    metrics_bytes: int = 0
    done: bool = False

    def __str__(self) -> str:
        """Where it stands, in a few words."""
        if self.stage is not None:
            return f"{self.stage.stage} after round {self.stage.round}"
        return f"after {self.results[-1]['stage']}" if self.results else "before its first round"

    def save(self, folder: Path, best_is_new: bool = True) -> None:
        """Write the state in place of the one before; at most the last and the best are kept.

        The best parameters have a file of their own, under the name of their round: they are
        written when they are new, before the state that counts on them, and the ones before are
        deleted after it.

        Args:
            folder: for the files.
            best_is_new: whether the best parameters are others than in the state before.

        Raises:
            OSError: the disk does not take it; the state before stays.
        """
        about = {k: v for k, v in vars(self).items() if k not in ("settings", "stage")}
        about["settings"] = asdict(self.settings)
        tensors: Parameters = {}
        best = None
        if self.stage is not None:
            arrays = ("parameters", "optimizer", "best")
            about["stage"] = {k: v for k, v in vars(self.stage).items() if k not in arrays}
            for part in arrays[:2]:
                own: Parameters = vars(self.stage)[part]
                tensors |= {f"{part}/{name}": value for name, value in own.items()}
            if self.stage.best is not None:
                best = folder / _name_of_best(self.stage.stage, self.stage.best_round)
                if best_is_new:
                    save_sealed(best, {"stage": self.stage.stage}, self.stage.best)
        save_sealed(folder / LAST, about, tensors)
        for other in folder.glob("best-*.safetensors"):
            if other != best:
                other.unlink()

    @classmethod
    def load(cls, folder: Path) -> RunState:
        """Read the state of a run.

        Raises:
            FedmemError: there is none, or it is damaged.
        """
        path = folder / LAST
        about, tensors = load_sealed(path, "run's state")
        del about["hash"]
        try:
            stage = about.pop("stage", None)
            state = cls(**{**about, "settings": Settings.from_dict(about["settings"])})
            if stage is None:
                return state
            parts: dict[str, Parameters] = {"parameters": {}, "optimizer": {}}
            for name, value in tensors.items():
                part, _, own = name.partition("/")
                parts[part][own] = value
            best = None
            if stage["best_validation"]:
                best = _load_best(folder / _name_of_best(stage["stage"], stage["best_round"]))
            arrays: dict[str, Any] = {**parts, "best": best}
            return replace(state, stage=StageState(**stage, **arrays))
        except (KeyError, TypeError) as error:
            raise of_another_version(path, error) from error


def _name_of_best(stage: str, best_round: int) -> str:
    return f"best-{stage}-{best_round}.safetensors"


def _load_best(path: Path) -> Parameters:
    return load_sealed(path, "run's best parameters")[1]


def peek(folder: Path) -> RunState | None:
    """The state in a folder; None where there is none that can be read."""
    with contextlib.suppress(FedmemError):
        return RunState.load(folder)
    return None
