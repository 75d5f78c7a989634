"""The ServerApp: the stages of a run in order, in the simulation and in a real federation."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedmem.core.checkpoint import Checkpoint, load_parents
from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.outcomes import save_outcomes
from fedmem.core.evaluation.protocol import COLD, RANKINGS
from fedmem.core.memory import auto_threshold
from fedmem.core.model.parameters import content_hash, initial_parameters
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage, find_stage
from fedmem.messaging.messages import from_array_record, to_array_record
from fedmem.messaging.roster import Roster
from fedmem.runs.folder import RunFolder
from fedmem.runs.records import Observer, RoundRecord, StageResult, read_results
from fedmem.runs.state import StageState
from strategies import StageFedAvg


@dataclass
class Run:
    """Runs the stages of a run, one after the other, from where its folder says that it stands.

    Args:
        settings: of the run.
        observers: told of every stage and round.
        stop: set from outside to end the run; it can go on from its last finished round.
        folder: of the run; None: a new one, in `output_dir`.
        keep_ranks: ask the nodes for each user's ranks of the test, and keep them in the folder.
    """

    settings: Settings
    observers: Sequence[Observer]
    stop: threading.Event = field(default_factory=threading.Event)
    folder: RunFolder | None = None
    keep_ranks: bool = False

    def __call__(self, grid: Grid) -> list[StageResult]:
        """Run the stages on the nodes of `grid`; none comes after one that had to stop."""
        with contextlib.ExitStack() as opened:
            folder = self.folder or opened.enter_context(RunFolder.start(self.settings))
            results = read_results(folder)
            stages = [find_stage(name) for name in self.settings.stages[len(results) :]]
            if stages:
                content = any(stage.content for stage in stages)
                roster = Roster(self.settings, grid, content, folder.state.nodes > 0, self.stop)
                roster.meet()
            for stage in stages:
                if results and results[-1].stopped:
                    break
                results.append(self._run_stage(grid, roster, stage, folder))
            folder.end_run(self.settings)
            return results

    def _run_stage(
        self, grid: Grid, roster: Roster, stage: Stage, folder: RunFolder
    ) -> StageResult:
        settings, started = self.settings, time.monotonic()
        parents = load_parents(settings, stage, roster.catalogue)
        folder.start_stage({name: parent.hash for name, parent in parents.items()})
        state = folder.state.stage
        parameters = initial_parameters(
            settings.model,
            stage,
            roster.num_items,
            roster.widths,
            settings.seed,
            {name: parent.parameters for name, parent in parents.items()},
        )
        scope, rest = stage.split(parameters)
        frozen = {name: parameters[name] for name in rest}
        trained = sum(parameters[name].numel() for name in scope)
        if state is not None:
            threshold = state.threshold
        else:
            threshold = self._threshold(roster, folder) if stage.memory else None
        records = [RoundRecord(**record) for record in folder.rounds(stage.name)]
        before = sum(record.seconds for record in records)

        def on_round(record: RoundRecord, state: StageState, is_best: bool) -> None:
            records.append(record)
            folder.end_round(asdict(record), state, is_best)
            for observer in self.observers:
                observer.on_round(record)

        strategy = StageFedAvg(
            settings,
            stage,
            roster,
            to_array_record(frozen),
            content_hash(frozen),
            threshold,
            on_round,
            state,
        )
        last = strategy.standing.schedule.last
        for observer in self.observers:
            observer.on_stage(stage, last, trained, state.round if state else 0)
        initial = to_array_record({name: parameters[name] for name in scope})
        best = strategy.start(grid, initial).arrays
        standing = strategy.standing
        if standing.best is None:
            folder.give_up()
            raise FedmemError(standing.trouble or f"{stage.name} has no round to run.")
        testing = time.monotonic()
        rankings = [*RANKINGS, COLD] if settings.evaluation.cold_items else RANKINGS
        test, memory = strategy.evaluate(
            grid, best, standing.best_round, "test", ",".join(rankings), self.keep_ranks
        )
        if self.keep_ranks:
            save_outcomes(folder.path, stage.name, strategy.outcomes)
        test_seconds = time.monotonic() - testing
        checkpoint = Checkpoint(
            stage=stage.name,
            catalogue=roster.catalogue,
            model=settings.model,
            round=standing.best_round,
            metrics=standing.best_validation,
            parents={name: parent.hash for name, parent in parents.items()},
            parameters={**frozen, **from_array_record(best)},
        )
        path = Path(settings.checkpoint.dir) / f"{stage.name}.safetensors"
        checkpoint.save(path)
        messages = max(sum(record.messages for record in records), 1)
        result = StageResult(
            stage=stage.name,
            rounds=max(record.round for record in records),
            best_round=standing.best_round,
            trained_parameters=trained,
            bytes_down=sum(r.bytes_down - r.bytes_frozen for r in records) / messages,
            bytes_up=sum(r.bytes_up for r in records) / messages,
            seconds=before + time.monotonic() - started,
            test_seconds=test_seconds,
            validation=standing.best_validation,
            test=test,
            threshold=threshold,
            memory=memory or None,
            checkpoint=str(path),
            stopped=standing.trouble,
        )
        folder.end_stage(asdict(result), checkpoint.hash)
        for observer in self.observers:
            observer.on_result(result)
        return result

    def _threshold(self, roster: Roster, folder: RunFolder) -> float:
        """The memory's novelty threshold: as set, or from the nodes' summed histograms."""
        memory = self.settings.memory
        if memory.threshold != "auto":
            return float(memory.threshold)
        histogram = roster.novelty_histogram()
        threshold = auto_threshold(histogram, memory.write_ratio)
        folder.keep_novelty(histogram.tolist(), threshold)
        return threshold


def make_server_app(run: Callable[[Grid], object]) -> ServerApp:
    """A ServerApp that runs what it is given."""
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, _: Context) -> None:
        run(grid)

    return server_app
