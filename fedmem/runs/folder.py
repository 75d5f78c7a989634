"""A run's folder: who may write there, its metrics as they come, and its state after its rounds.

- `metrics.jsonl`: a line a round.
- `novelty.json`: what the memory's threshold was found from.
- `results.json`: when the run is done.
- `ranks.npz`: see `fedmem.core.evaluation.outcomes`, where they are kept.
- `state/`: of the last round, the best parameters of the stage under way, and the checkpoints that
  the run made or started from, by a name that no other run writes to.
- `nodes/`: what simulated nodes remember of their users.
- `frozen/`: the frozen rest of the stage under way, which simulated nodes share.
- `items.parquet`, `users.parquet`: see `fedmem.core.data.id_files`.
- `tensorboard/`, `mlflow_run_id`: see `fedmem.runs.tracking`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, Self

from fedmem.core.checkpoint import Checkpoint, checkpoint_path
from fedmem.core.data.id_files import ITEM_IDS, USER_IDS
from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.outcomes import FILE as OUTCOMES
from fedmem.core.files.atomic import flush, replacing
from fedmem.core.files.lock import InUseError, lock_file
from fedmem.core.privacy.ledger import Ledger
from fedmem.core.settings import Settings
from fedmem.runs.provenance import made_with
from fedmem.runs.records import StageResult
from fedmem.runs.stage_progress import StageProgress
from fedmem.runs.state import LAST, RunState

ROUNDS = "metrics.jsonl"
NOVELTY = "novelty.json"
RESULTS = "results.json"
STATE = "state"
LOCK = "lock"
AT_WORK = "Another process is at work in {}: let it end first."
NODES = "nodes"
FROZEN = "frozen"
KEPT = "kept-"
EVENTS = "tensorboard"
MLFLOW_RUN = "mlflow_run_id"


class RunFolder:
    """The folder of one run, opened by `start` or `go_on`; until `close` no other process may.

    Its `state` has a stage's tensors as it was read, and not once they are written: they are large.
    """

    def __init__(self, path: Path, state: RunState, locks: Sequence[IO[str]]) -> None:
        self.path = path
        self.state = state
        self._locks = locks
        self._metrics = (path / ROUNDS).open("ab")
        self._made_with = made_with(state.settings.simulation.device)  # while the code is as loaded

    @classmethod
    def start(
        cls,
        settings: Settings,
        overrides: Sequence[str] = (),
        simulated_nodes: int | None = None,
        data: str | None = None,
    ) -> Self:
        """Make the folder of a new run in `output_dir`; of a run that was there nothing stays.

        What it is given is what `RunState` keeps.

        Raises:
            FedmemError: another process writes there, or into `checkpoint.dir`.
            OSError: the disk does not take it.
        """
        path = Path(settings.output_dir)
        locks = [_lock_checkpoints(path, settings)]  # first: a run that is refused leaves nothing
        try:
            locks.append(_lock(path))
        except BaseException:
            locks[0].close()
            raise
        for name in (STATE, NODES, EVENTS):
            for left in (path / name).glob("*"):
                if left.name != LOCK:
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
        for name in (ROUNDS, NOVELTY, RESULTS, OUTCOMES, MLFLOW_RUN, ITEM_IDS, USER_IDS):
            (path / name).unlink(missing_ok=True)
        state = RunState(settings, list(overrides), simulated_nodes, data=data)
        folder = cls(path, state, locks)
        folder.state.save(path / STATE)
        return folder

    @classmethod
    def go_on(
        cls, path: Path, here: Callable[[Settings, RunState], Settings] | None = None
    ) -> Self:
        """Open the folder of a run that was begun, and cut its metrics to the rounds that ended.

        Its settings are what `here` makes of them, which were true where it has run before.

        Raises:
            FedmemError: there is none, it is damaged, or another process writes there.
        """
        if not (path / STATE / LAST).is_file():
            raise FedmemError(
                f"{path} holds no run that could go on: there is no {path / STATE / LAST}.\n"
                "run.resume wants the folder of a run, such as runs/ml-100k/<time>."
            )
        lock = _lock(path)
        try:
            state = RunState.load(path / STATE)
            metrics = path / ROUNDS
            size = metrics.stat().st_size if metrics.is_file() else 0
            if size < state.metrics_bytes:
                raise FedmemError(f"{metrics} has lost rounds that {path / STATE} counts.")
            if size > state.metrics_bytes:
                os.truncate(metrics, state.metrics_bytes)
            # It may have been moved since: what it writes belongs here.
            moved = replace(state.settings, output_dir=str(path.absolute()))
            moved = here(moved, state) if here else moved
            return cls(path, replace(state, settings=moved), [lock, _lock_checkpoints(path, moved)])
        except BaseException:
            lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others write here."""
        self._metrics.close()
        for lock in self._locks:
            lock.close()

    @property
    def results(self) -> list[StageResult]:
        """What the finished stages came to."""
        return [StageResult(**result) for result in self.state.results]

    def rounds(self, stage: str) -> list[dict[str, Any]]:
        """What was written of the stage's rounds."""
        lines = (self.path / ROUNDS).read_text(encoding="utf-8").splitlines()
        return [record for line in lines if (record := json.loads(line))["stage"] == stage]

    def end_rounds(self, records: Iterable[Mapping[str, Any]], stage: StageProgress) -> None:
        """Write that rounds have ended: their metrics, then the state after them.

        Raises:
            OSError: the disk does not take it; the state is that of the rounds before.
        """
        try:
            for record in records:
                self._metrics.write(json.dumps(record).encode() + b"\n")
            self._metrics.flush()
            flush(Path(self._metrics.name))
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._metrics.name) from error
        self._move(stage=stage, metrics_bytes=self._metrics.tell())

    def keep_progress(self, stage: StageProgress) -> None:
        """Write where a stage stands before the end of its next round.

        Raises:
            OSError: the disk does not take it; the state is that of the round before.
        """
        self._move(stage=stage)

    def start_stage(self, parents: Mapping[str, str]) -> None:
        """See that a stage starts from the checkpoints that it ought to, by content hash.

        Raises:
            FedmemError: one is another than the run made, or started from before.
        """
        for name, found in parents.items():
            if self.state.checkpoints.get(name, found) != found:
                raise FedmemError(
                    f"The checkpoint of {name} is another than when this run started from it, "
                    "written by another run since; this one cannot go on as before.\n"
                    f"Point checkpoint.{name} to the one it was, or start a new run with a "
                    "checkpoint.dir of its own."
                )
        if not self.state.checkpoints.keys() >= parents.keys():
            self._move(checkpoints={**self.state.checkpoints, **parents})

    def keep_checkpoint(self, stage: str, path: Path) -> None:
        """Keep a checkpoint that the run has made or starts from, should another run replace it.

        It is the same file by a second name; nothing is kept on a disk that knows no such names.
        """
        own = self._own(stage)
        if path != own:
            with contextlib.suppress(OSError):
                own.unlink(missing_ok=True)
                os.link(path, own)

    def with_own_checkpoints(self, settings: Settings, stages: Collection[str]) -> Settings:
        """Settings that name what was kept of these stages, where another run has replaced it."""
        kept: dict[str, str] = {}
        for stage in {*stages} & self.state.checkpoints.keys():
            expected, own = self.state.checkpoints[stage], self._own(stage)
            if own.is_file() and _hash_of(checkpoint_path(settings.checkpoint, stage)) != expected:
                kept[stage] = str(own)
        return replace(settings, checkpoint=replace(settings.checkpoint, **kept))

    def _own(self, stage: str) -> Path:
        return self.path / STATE / f"{KEPT}{stage}.safetensors"

    def require_content(self, content: str) -> None:
        """See that the nodes have the item features that the run was begun with, by their hash.

        Raises:
            FedmemError: they have others.
        """
        if self.state.content and content and content != self.state.content:
            raise FedmemError(
                "The nodes have other item features than when this run was begun; it cannot go on "
                "as before.\nGive them the files that they had, or start a new run."
            )
        if content and not self.state.content:
            self._move(content=content)

    def keep_novelty(self, counts: Sequence[int], threshold: float) -> None:
        """Write the histogram of `fedmem.core.memory.novelty` and the threshold found from it."""
        with replacing(self.path / NOVELTY) as partial:
            partial.write_text(json.dumps({"threshold": threshold, "counts": list(counts)}) + "\n")

    def end_stage(
        self, result: Mapping[str, Any], checkpoint: str, ledger: Ledger | None = None
    ) -> None:
        """Write that a stage has ended, with its checkpoint in place, and what was released."""
        checkpoints = {**self.state.checkpoints, str(result["stage"]): checkpoint}
        results = [*self.state.results, dict(result)]
        self._move(stage=None, results=results, checkpoints=checkpoints, ledger=ledger)

    def end_run(self, settings: Settings) -> None:
        """Write `results.json`, and that nothing is left to do."""
        content = {
            "settings": asdict(settings),
            "stages": self.state.results,
            "made_with": asdict(self._made_with),
        }
        with replacing(self.path / RESULTS) as partial:
            partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        self._move(done=True)
        for kept in (self.path / STATE).glob(f"{KEPT}*"):
            kept.unlink()

    def give_up(self) -> None:
        """Write that the run cannot go on, and that there is nothing to be kept of it."""
        self._move(stage=None, done=True)

    def _move(self, **changes: Any) -> None:
        assert "stage" in changes or not self.state.stage or self.state.stage.parameters
        state = replace(self.state, **changes)
        state.save(self.path / STATE)
        stage = changes.get("stage")
        self.state = state if stage is None else replace(state, stage=stage.without_tensors)


def shown(path: Path | str) -> str:
    """A path as one would type it: relative where it lies below the folder that we are in."""
    short = os.path.relpath(path)
    return str(path) if short.startswith("..") else short


def _hash_of(path: Path) -> str | None:
    """Of a checkpoint; None where there is none that can be read."""
    with contextlib.suppress(FedmemError):
        return Checkpoint.load(path).hash if path.is_file() else None
    return None


def _lock(path: Path) -> IO[str]:
    """The run's lock file, locked while it is open; the system lets go of it if we are killed."""
    try:
        return lock_file(path / STATE / LOCK)
    except InUseError as error:
        raise FedmemError(AT_WORK.format(path)) from error


def _lock_checkpoints(path: Path, settings: Settings) -> IO[str]:
    """Of the folder for its checkpoints: another run would replace those that it starts from."""
    folder = Path(settings.checkpoint.dir)
    try:
        return lock_file(folder / LOCK, about=str(path.absolute()))
    except InUseError as error:
        if str(error) == str(path.absolute()):
            raise FedmemError(AT_WORK.format(path)) from error
        raise FedmemError(
            f"checkpoint.dir={shown(folder)} is in use by another run, {shown(str(error))}.\n"
            "Give this one a folder of its own, checkpoint.dir=FOLDER, or let that one end first."
        ) from error
