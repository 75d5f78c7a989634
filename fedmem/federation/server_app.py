"""The ServerApp: the stages of a run in order, in the simulation and in a real federation."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedmem.core.checkpoint import Checkpoint, checkpoint_path, load_parents
from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.protocol import COLD, RANKINGS
from fedmem.core.machine.device import FEW_THREADS
from fedmem.core.memory import auto_threshold
from fedmem.core.model.parameters import initial_parameters
from fedmem.core.privacy.ledger import Ledger
from fedmem.core.privacy.plan import open_ledger
from fedmem.core.settings import Settings
from fedmem.core.stages import Stage, find_stage
from fedmem.federation.item_table import starting_rows
from fedmem.federation.rounds import run_rounds
from fedmem.messaging.roster import Roster
from fedmem.runs.folder import RunFolder
from fedmem.runs.records import Observer, StageResult
from fedmem.runs.reporter import StageReporter
from fedmem.runs.stage_progress import StageRules
from fedmem.strategies import StageFedAvg


@dataclass
class Run:
    """Runs the stages of a run, one after the other, from where its folder says that it stands.

    Args:
        settings: of the run.
        observers: notified of every stage and round.
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
        torch.set_num_threads(min(torch.get_num_threads(), FEW_THREADS))
        with contextlib.ExitStack() as opened:
            folder = self.folder or opened.enter_context(
                RunFolder.start(self.settings, simulated_nodes=int(self.settings.federation.nodes))
            )
            results = folder.results
            stages = [find_stage(name) for name in list(self.settings.stage)[len(results) :]]
            if stages:
                content = any(stage.reads_content for stage in stages)
                simulated = folder.state.simulated_nodes is not None
                roster = Roster(self.settings, grid, content, simulated, self.stop)
                roster.meet()
                folder.require_content(roster.content)
            for stage in stages:
                if results and results[-1].stopped:
                    break
                results.append(self._run_stage(roster, stage, folder))
            folder.end_run(self.settings)
            return results

    def _run_stage(self, roster: Roster, stage: Stage, folder: RunFolder) -> StageResult:
        """Begin a stage or go on with it, run its rounds, and finish it."""
        settings, reporter = self.settings, StageReporter(folder, self.observers, stage)
        own = folder.with_own_checkpoints(settings, stage.requires)
        parents = load_parents(own, stage, roster.catalogue, roster.content)
        hashes = {name: parent.hash for name, parent in parents.items()}
        folder.start_stage(hashes)
        for name in parents:
            folder.keep_checkpoint(name, checkpoint_path(own.checkpoint, name))
        rules, progress = StageRules(settings, stage), folder.state.stage
        # Real nodes do not keep the secrets of their noise, simulated ones come to the same bits.
        noised_anew = settings.privacy.of_nodes and folder.state.simulated_nodes is None
        from_content = settings.model.item_start == "content" and stage.makes_table
        parameters = initial_parameters(
            settings.model,
            stage,
            roster.num_items,
            roster.widths,
            settings.seed,
            {name: parent.parameters for name, parent in parents.items()},
            starting_rows(settings, roster) if from_content and progress is None else None,
        )
        names, rest = stage.split(parameters)
        scope, frozen = ({n: parameters[n] for n in part} for part in (names, rest))
        if progress is None:
            threshold = self._threshold(roster, folder) if stage.memory else None
            progress = rules.begin(scope, threshold, self._ledger(roster, folder, parents))
        elif noised_anew:
            progress = rules.gone_on(progress)
        if noised_anew:  # so that a second break finds the charge of the first
            folder.keep_progress(progress)
        reporter.begin(progress)
        strategy = StageFedAvg(settings, stage, roster, frozen, progress)
        progress = run_rounds(strategy, roster, rules, progress, reporter)
        if progress.best is None:
            folder.give_up()
            raise FedmemError(progress.trouble or f"{stage.name} has no round to run.")
        best, progress = progress.best, rules.charged_figures(progress)
        rankings = [*RANKINGS, COLD] if settings.evaluation.cold_items else RANKINGS
        test = strategy.rank(progress.best_round, best, "test", rankings, ranks=self.keep_ranks)
        known = roster.content if stage.reads_content else ""
        return reporter.finish(settings, progress, test, roster.catalogue, frozen, hashes, known)

    def _ledger(
        self, roster: Roster, folder: RunFolder, parents: Mapping[str, Checkpoint]
    ) -> Ledger | None:
        """What the run has released before this stage; None: it is not private."""
        if not self.settings.privacy.on:
            return None
        released = {name: parent.released for name, parent in parents.items()}
        return folder.state.ledger or open_ledger(self.settings, len(roster.users), released)

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
