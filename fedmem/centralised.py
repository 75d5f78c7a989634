"""Train stage 1 on pooled data, to compare with.

    python -m fedmem.centralised data=ml-1m data.dir=FOLDER

All histories lie in one place here, which fedmem is there to avoid: this is what a federated
stage 1 is held up to. Model, loss, windows, dropout and both rankings are those of stage 1; what
differs is that one Adam takes a step on every batch of windows, in epochs over all of them.

It runs in one process, without Flower, takes the settings of `fedmem.simulate`, and writes the
files of a run: `metrics.jsonl` (an epoch a line, as `round`), `results.json`, `ranks.npz`, and a
state from which it goes on with `run.resume`.
"""

from __future__ import annotations

from fedmem.runs.command_line import answer_help, job, jobs_at_a_time, run_command

if __name__ == "__main__":
    answer_help(__doc__)  # before the imports below, which take seconds

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import hydra
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from fedmem.core.data import write_id_files
from fedmem.core.data.identity import identity
from fedmem.core.data.interactions import Split
from fedmem.core.data.sampling import participants, sample_ranked
from fedmem.core.errors import FedmemError, readable_disk_errors
from fedmem.core.evaluation.outcomes import Evaluation
from fedmem.core.evaluation.protocol import RANKINGS, USERS, means
from fedmem.core.machine.device import set_threads
from fedmem.core.machine.placement import share_of
from fedmem.core.model.parameters import Parameters, initial_parameters
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import CENTRALISED
from fedmem.core.training.batches import RoundKey
from fedmem.core.training.optimizer_state import load_optimizer_state, optimizer_state
from fedmem.runs.configuration import CONFIG_MODULE, pooled
from fedmem.runs.folder import RunFolder, shown
from fedmem.runs.progress import make_progress, print_results
from fedmem.runs.records import Observer, RoundRecord, StageResult
from fedmem.runs.reporter import StageReporter
from fedmem.runs.resume import absolute, go_on, how_to_go_on, own_settings
from fedmem.runs.stage_progress import StageProgress, StageRules
from fedmem.runs.tracking import require_installed, trackers


class CentralTraining:
    """Trains stage 1 on the pooled histories of a run's users, and keeps the best epoch.

    Args:
        settings: as `pooled` gives them; `federation.num_clients` says who takes part,
            `federation.evaluate_every` the epochs between two validations, `strategy.patience` how
            many of them without a better one end it.
        folder: of the run, open.
        observers: notified of every epoch.

    Raises:
        FedmemError: the data do not allow it.
    """

    def __init__(
        self, settings: Settings, folder: RunFolder, observers: Sequence[Observer]
    ) -> None:
        central = settings.centralised
        set_threads(settings.simulation.threads, settings.simulation.device)
        client = replace(settings.client, windows=central.windows)
        self.settings = settings = replace(settings, client=client)
        rules = replace(
            settings,
            federation=replace(settings.federation, rounds=central.epochs),
            strategy=replace(settings.strategy, cooldown=0.0, collapse=None),
        )
        self.rules = StageRules(rules, CENTRALISED)  # of epochs: patience ends them at once
        self.folder = folder
        self.observers = observers
        self.node = Node(settings, participants(settings))
        num_items, seed = self.node.interactions.num_items, settings.seed
        rows = self.node.starting_rows() if settings.starts_from_content else None
        initial = initial_parameters(settings.model, CENTRALISED, num_items, (0, 0), seed, {}, rows)
        self.model = self.node.load(CENTRALISED, initial)
        self.trainer = self.node.trainer(CENTRALISED)
        self.optimizer = torch.optim.Adam(self.trainer.scope.values(), lr=central.learning_rate)

    def run(self) -> StageResult:
        """Train the epochs that are left, and rank the test items by the best one."""
        reporter = StageReporter(self.folder, self.observers, CENTRALISED)
        progress = self.folder.state.stage
        if progress is None:
            progress = self.rules.begin(self._parameters(), threshold=None)
        else:
            self.node.load(CENTRALISED, progress.parameters)
            load_optimizer_state(self.optimizer, self.trainer.scope, progress.optimizer)
        reporter.begin(progress)
        try:
            while not progress.over:
                record, progress = self._epoch(progress)
                reporter.ended(record, progress)
                reporter.report()
        finally:
            reporter.end()
        assert progress.best is not None
        self.node.load(CENTRALISED, progress.best)
        test = self._rank("test", RANKINGS)
        return reporter.finish(self.settings, progress, test, self.node.interactions.fingerprint)

    def _epoch(self, progress: StageProgress) -> tuple[RoundRecord, StageProgress]:
        """Train on every window once, in an order by seed and epoch; validate where it is due."""
        settings, began, epoch = self.settings, time.monotonic(), progress.round + 1
        key = RoundKey(settings.seed, CENTRALISED.name, epoch)
        loss, targets = 0.0, 0
        windows, size = len(self.node.windows), settings.centralised.batch
        order = np.random.default_rng([settings.seed, epoch]).permutation(windows)
        for start in range(0, windows, size):
            rows = order[start : start + size]
            weight = int(self.node.windows.lengths[rows].sum())
            loss += self.trainer.accumulate_gradient(rows, key, step=0)
            for parameter in self.trainer.scope.values():
                if parameter.grad is not None:
                    parameter.grad /= weight
            self.optimizer.step()
            targets += weight
        loss /= targets
        if not math.isfinite(loss):
            raise FedmemError(
                f"Epoch {epoch}: the loss is {loss}. Lower centralised.learning_rate."
            )
        record = RoundRecord(
            CENTRALISED.name, epoch, loss=loss, users=len(self.node.users), targets=targets
        )
        progress = replace(
            progress,
            round=epoch,
            parameters=self._parameters(),
            optimizer=optimizer_state(self.optimizer, self.trainer.scope),
        )
        if epoch % settings.federation.evaluate_every == 0 or epoch == progress.schedule.last:
            found = self._rank("validation", ("sampled",))
            record = replace(record, validation=found.metrics, evaluation_seconds=found.seconds)
            progress = self.rules.validated(progress, record)
        seconds = time.monotonic() - began
        return replace(record, last=progress.schedule.last, seconds=seconds), progress

    def _rank(self, split: Split, rankings: tuple[str, ...]) -> Evaluation:
        began = time.monotonic()
        known = self.node.users
        users = sample_ranked(self.settings, known)
        ranks = self.node.rank(CENTRALISED, users, split, rankings)
        return Evaluation(
            metrics=means(ranks.sums()),
            users=len(users),
            drawn_from=len(known) if len(users) < len(known) else None,
            memory=None,
            outcomes={USERS: ranks},
            seconds=time.monotonic() - began,
        )

    def _parameters(self) -> Parameters:
        return {n: value.detach().cpu().clone() for n, value in self.model.state_dict().items()}


def train_centrally(
    settings: Settings, overrides: Sequence[str] = ()
) -> tuple[Settings, list[StageResult]]:
    """Train, or go on, and write what a run writes to `output_dir`; arguments as of `simulate`.

    Raises:
        FedmemError: the settings, the data or the folder do not allow it.
        KeyboardInterrupt: Ctrl-C; the run can go on.
    """
    require_installed(settings.tracking)
    settings = pooled(settings)
    folder = go_on(settings, overrides, Path(settings.output_dir).parent)
    if folder is None:
        participants(settings)  # data that are not there leave no run that would go on
        folder = RunFolder.start(absolute(settings), overrides, data=identity(settings))
        write_id_files(folder.path, settings)
    with readable_disk_errors(), folder:
        settings = own_settings(folder.state, overrides)
        if CENTRALISED.name not in settings.stage:
            raise FedmemError(f"{shown(folder.path)} holds a run of fedmem.simulate, no other.")
        if not folder.state.done:
            try:
                with make_progress() as progress, trackers(settings, folder) as observers:
                    CentralTraining(settings, folder, [progress, *observers]).run()
                    folder.end_run(settings)
            except KeyboardInterrupt as error:
                raise KeyboardInterrupt(how_to_go_on(folder.path, CENTRALISED.name)) from error
        return settings, folder.results


@hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name="config", version_base="1.3")
def _hydra_main(config: DictConfig) -> None:
    with job(config) as settings:
        share = share_of(settings.simulation, jobs_at_a_time(), workers=False)
        overrides = list(HydraConfig.get().overrides.task)
        settings, results = train_centrally(replace(settings, simulation=share), overrides)
        print_results(results, settings, data_here=True)


def main() -> None:
    """The command; exits with 2 for a mistake that the user can mend, 130 for Ctrl-C."""
    run_command(_hydra_main)


if __name__ == "__main__":
    main()
