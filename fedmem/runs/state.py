"""What a run is after a round: all that it needs to go on as if it had never been stopped.

Who trains in a round follows from seed, stage and round, so the sampler has no state; what a node
remembers of its users is kept at the node (`fedmem/core/memory/memory_store.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedmem.core.errors import FedmemError
from fedmem.core.files.sealed import load_sealed, of_another_version, save_sealed
from fedmem.core.model.parameters import Parameters
from fedmem.core.privacy.ledger import Ledger
from fedmem.core.settings import Settings
from fedmem.runs.records import RoundRecord
from fedmem.runs.schedule import Schedule
from fedmem.runs.stage_progress import StageProgress

LAST = "last.safetensors"
TENSORS = ("parameters", "optimizer", "owed", "best")  # of a stage's progress, kept as such


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Attributes:
        settings: as they were asked for, its paths absolute.
        overrides: what was asked for on the command line.
        simulated_nodes: that share the users, which `settings` may leave open; None: real ones.
        stage: the stage under way; None: no round of it has ended.
        results: of the stages that are finished, as dictionaries.
        checkpoints: content hash of every checkpoint that the run made or started from, by stage.
        metrics_bytes: where `metrics.jsonl` ends.
        done: nothing is left to do.
        data: `fedmem.core.data.identity` of the data; None: they are the nodes'.
        ledger: what the finished stages have released; None: no stage is finished, or private.
        content: hash of the nodes' item features; empty: there are none, or they are not known.
    """

    settings: Settings
    overrides: list[str]
    simulated_nodes: int | None
    stage: StageProgress | None = None
    results: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: dict[str, str] = field(default_factory=dict)
    metrics_bytes: int = 0
    done: bool = False
    data: str | None = None
    ledger: Ledger | None = None
    content: str = ""

    def __str__(self) -> str:
        """Where it stands, in a few words."""
        if self.stage is not None:
            return f"{self.stage.stage} after round {self.stage.round}"
        return f"after {self.results[-1]['stage']}" if self.results else "before its first round"

    def save(self, folder: Path) -> None:
        """Write the state in place of the one before; at most the last and the best are kept.

        The best parameters have a file of their own, under the name of their round: they are
        written when they are new, before the state that counts on them, and the ones before are
        deleted after it.

        Raises:
            OSError: the disk does not take it; the state before stays.
        """
        about = {k: v for k, v in vars(self).items() if k not in ("settings", "stage")}
        about |= {"settings": asdict(self.settings), "stage": None, "ledger": _kept(self.ledger)}
        tensors: Parameters = {}
        best, stage = None, self.stage
        if stage is not None:
            about["stage"] = {k: v for k, v in vars(stage).items() if k not in TENSORS}
            about["stage"]["schedule"] = asdict(stage.schedule)
            about["stage"]["ledger"] = _kept(stage.ledger)
            about["stage"]["awaiting"] = stage.awaiting and asdict(stage.awaiting)
            tensors |= {f"parameters/{name}": value for name, value in stage.parameters.items()}
            tensors |= {f"optimizer/{name}": value for name, value in stage.optimizer.items()}
            tensors |= {f"owed/{name}": value for name, value in stage.owed.items()}
            if stage.best is not None:
                best = folder / _name_of_best(stage.stage, stage.best_round)
                if stage.is_best or not best.is_file():
                    save_sealed(best, {"stage": stage.stage}, stage.best)
        save_sealed(folder / LAST, about, tensors)
        for other in folder.glob("best-*.safetensors"):
            if other != best:
                other.unlink()

    @classmethod
    def load(cls, folder: Path, with_best: bool = True) -> RunState:
        """Read the state of a run.

        Without the best parameters it can be read while the run is going, and cannot go on.

        Raises:
            FedmemError: there is none, or it is damaged.
        """
        path = folder / LAST
        about, tensors = load_sealed(path, "run's state")
        del about["hash"]
        try:
            about["settings"] = Settings.from_dict(about["settings"])
        except (FedmemError, KeyError) as error:
            raise of_another_version(path, error) from error
        try:
            about["ledger"] = _ledger_of(about)
            if about["stage"] is not None:
                about["stage"] = _load_stage(folder, about["stage"], tensors, with_best)
            return cls(**about)
        except (KeyError, TypeError) as error:
            raise of_another_version(path, error) from error


def _load_stage(
    folder: Path, about: dict[str, Any], tensors: Parameters, with_best: bool
) -> StageProgress:
    parts: dict[str, Any] = {"parameters": {}, "optimizer": {}, "owed": {}}
    for name, value in tensors.items():
        part, _, own = name.partition("/")
        parts[part][own] = value
    best = None
    if about["best_validation"] and with_best:
        path = folder / _name_of_best(about["stage"], about["best_round"])
        best = load_sealed(path, "run's best parameters")[1]
    made: dict[str, Any] = {"schedule": Schedule(**about["schedule"]), "ledger": _ledger_of(about)}
    made["awaiting"] = (kept := about.get("awaiting")) and RoundRecord(**kept)
    return StageProgress(**{**about, **made}, **parts, best=best)


def _kept(ledger: Ledger | None) -> dict[str, Any] | None:
    return None if ledger is None else ledger.to_dict()


def _ledger_of(about: Mapping[str, Any]) -> Ledger | None:
    kept = about.get("ledger")
    return None if kept is None else Ledger.from_dict(kept)


def _name_of_best(stage: str, best_round: int) -> str:
    return f"best-{stage}-{best_round}.safetensors"


def peek(folder: Path) -> RunState | None:
    """The state in a folder; None where there is none that can be read."""
    with contextlib.suppress(FedmemError):
        return RunState.load(folder)
    return None
