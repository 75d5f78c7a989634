"""`python -m fedmem.centralised`: the SASRec of stage 1, trained on pooled data. No federation.

All histories lie in one place here, which fedmem is there to avoid: this is what a federated
stage 1 is held up to. Model, loss, windows, dropout and both rankings are those of stage 1; what
differs is that one Adam takes a step on every batch of windows, in epochs over all of them.

It runs in one process, without Flower, takes the settings of `fedmem.simulate`, and writes the
files of a run: `metrics.jsonl` (an epoch a line, as `round`), `results.json`, `ranks.npz`, and a
state from which it goes on with `run.resume`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import hydra
import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from torch import Tensor

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.data import load_histories
from fedmem.core.data.sampling import UserIndices, participants
from fedmem.core.errors import FedmemError, readable_disk_errors, readable_exit
from fedmem.core.evaluation.outcomes import save_outcomes
from fedmem.core.evaluation.protocol import RANKINGS, USERS, means
from fedmem.core.machine.placement import share_of
from fedmem.core.model.parameters import Parameters, initial_parameters
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import PRETRAIN_SASREC
from fedmem.core.training.batches import RoundKey, Rows
from fedmem.runs.command_line import jobs_at_a_time, run_command
from fedmem.runs.configuration import CONFIG_MODULE, to_settings
from fedmem.runs.folder import RunFolder, shown
from fedmem.runs.progress import make_progress
from fedmem.runs.records import Observer, RoundRecord, StageResult, read_results, worth
from fedmem.runs.results import print_results
from fedmem.runs.resume import absolute, go_on, how_to_go_on, own_settings
from fedmem.runs.state import StageState
from fedmem.runs.tracking import require_installed, trackers

CENTRALISED = replace(PRETRAIN_SASREC, name="centralised")
"""Stage 1 under another name, so that nobody takes its checkpoint or its figures for federated."""


class CentralTraining:
    """Trains stage 1 on the pooled histories of a run's users, and keeps the best epoch.

    Args:
        settings: of the run; `federation.num_clients` says who takes part,
            `federation.evaluate_every` the epochs between two validations, `strategy.patience` how
            many of them without a better one end it.
        folder: of the run, open.
        observers: told of every epoch.

    Raises:
        FedmemError: the data do not allow it.
    """

    def __init__(
        self, settings: Settings, folder: RunFolder, observers: Sequence[Observer]
    ) -> None:
        central = settings.centralised
        if settings.simulation.threads:
            torch.set_num_threads(settings.simulation.threads)
        settings = replace(settings, client=replace(settings.client, windows=central.windows))
        self.settings = settings
        self.folder = folder
        self.observers = observers
        self.node = Node(settings, _users(settings))
        self.model = self.node.load(CENTRALISED, self._initial(), frozen_hash="")
        self.trainer = self.node.trainer(CENTRALISED)
        self.optimizer = torch.optim.Adam(self.trainer.scope.values(), lr=central.learning_rate)

    def run(self) -> StageResult:
        """Train the epochs that are left, and rank the test items by the best one."""
        central, state, started = self.settings.centralised, self._resumed(), time.monotonic()
        trained = sum(parameter.numel() for parameter in self.trainer.scope.values())
        for observer in self.observers:
            observer.on_stage(CENTRALISED, central.epochs, trained, state.round)
        before = sum(record["seconds"] for record in self.folder.rounds(CENTRALISED.name))
        while state.round < central.epochs and state.since_best < self.settings.strategy.patience:
            state = self._epoch(state)
        assert state.best is not None
        self.node.load(CENTRALISED, state.best, frozen_hash="")
        testing = time.monotonic()
        ranks = self.node.rank(CENTRALISED, self.node.users, "test", RANKINGS)
        save_outcomes(self.folder.path, CENTRALISED.name, {USERS: ranks})
        path = Path(self.settings.checkpoint.dir) / f"{CENTRALISED.name}.safetensors"
        checkpoint = Checkpoint(
            stage=CENTRALISED.name,
            catalogue=self.node.interactions.fingerprint,
            model=self.settings.model,
            round=state.best_round,
            metrics=state.best_validation,
            parents={},
            parameters=state.best,
        )
        checkpoint.save(path)
        result = StageResult(
            stage=CENTRALISED.name,
            rounds=state.round,
            best_round=state.best_round,
            trained_parameters=trained,
            bytes_down=0.0,
            bytes_up=0.0,
            seconds=before + time.monotonic() - started,
            test_seconds=time.monotonic() - testing,
            validation=state.best_validation,
            test=means(ranks.sums()),
            threshold=None,
            memory=None,
            checkpoint=str(path),
            stopped=None,
        )
        self.folder.end_stage(asdict(result), checkpoint.hash)
        for observer in self.observers:
            observer.on_result(result)
        return result

    def _epoch(self, state: StageState) -> StageState:
        """Train on every window once; the state afterwards, which is written."""
        settings, began, epoch = self.settings, time.monotonic(), state.round + 1
        key = RoundKey(settings.seed, CENTRALISED.name, epoch)
        loss, targets = 0.0, 0
        for rows in self._batches(epoch):
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
            CENTRALISED.name,
            epoch,
            last=settings.centralised.epochs,
            loss=loss,
            users=len(self.node.users),
            targets=targets,
        )
        state = replace(
            state, round=epoch, parameters=self._parameters(), optimizer=self._optimizer_state()
        )
        is_best = False
        if epoch % settings.federation.evaluate_every == 0 or epoch == settings.centralised.epochs:
            record = self._validate(record)
            assert record.validation is not None
            is_best = state.best is None or worth(record.validation) > worth(state.best_validation)
            state = replace(state, since_best=0 if is_best else state.since_best + 1)
            if is_best:
                state = replace(
                    state,
                    best=state.parameters,
                    best_round=epoch,
                    best_validation=record.validation,
                )
        record = replace(record, seconds=time.monotonic() - began)
        self.folder.end_round(asdict(record), state, is_best)
        for observer in self.observers:
            observer.on_round(record)
        return state

    def _validate(self, record: RoundRecord) -> RoundRecord:
        started = time.monotonic()
        ranks = self.node.rank(CENTRALISED, self.node.users, "validation", ("sampled",))
        took = time.monotonic() - started
        return replace(record, validation=means(ranks.sums()), evaluation_seconds=took)

    def _batches(self, epoch: int) -> Iterator[Rows]:
        """All windows once, in an order that the seed and the epoch give."""
        windows, size = len(self.node.windows), self.settings.centralised.batch
        order = np.random.default_rng([self.settings.seed, epoch]).permutation(windows)
        for start in range(0, windows, size):
            yield order[start : start + size]

    def _initial(self) -> Parameters:
        model, seed = self.settings.model, self.settings.seed
        return initial_parameters(
            model, CENTRALISED, self.node.interactions.num_items, (0, 0), seed, {}
        )

    def _resumed(self) -> StageState:
        """Where the run stands: as its folder says, with model and optimizer brought there."""
        state = self.folder.state.stage
        if state is None:
            return StageState(
                stage=CENTRALISED.name,
                round=0,
                parameters=self._parameters(),
                optimizer={},
                best_round=0,
                best_validation={},
                best=None,
                since_best=0,
                cut_after=None,
                lowest_loss=None,
                usual=[],
                threshold=None,
                trouble=None,
            )
        self.node.load(CENTRALISED, state.parameters, frozen_hash="")
        for name, parameter in self.trainer.scope.items():
            own = {k: v for k, v in state.optimizer.items() if k.startswith(f"{name}/")}
            self.optimizer.state[parameter] = {k.rpartition("/")[2]: v for k, v in own.items()}
        return state

    def _parameters(self) -> Parameters:
        return {name: _copy(value) for name, value in self.model.state_dict().items()}

    def _optimizer_state(self) -> Parameters:
        return {
            f"{name}/{key}": _copy(value)
            for name, parameter in self.trainer.scope.items()
            for key, value in self.optimizer.state[parameter].items()
        }


def _users(settings: Settings) -> UserIndices:
    """Who takes part; the data are read."""
    num_users = load_histories(settings).warm.num_users
    return participants(settings.federation, num_users, settings.seed)


def _copy(value: Tensor) -> Tensor:
    return value.detach().cpu().clone()


def train_centrally(
    settings: Settings, overrides: Sequence[str] = (), place: Path | None = None
) -> tuple[Settings, list[StageResult]]:
    """Train, or go on, and write what a run writes to `output_dir`; arguments as of `simulate`.

    Raises:
        FedmemError: the settings, the data or the folder do not allow it.
        KeyboardInterrupt: Ctrl-C; the run can go on.
    """
    require_installed(settings.tracking)
    settings = replace(settings, stages=[CENTRALISED.name])
    folder = go_on(settings, overrides, place or Path(settings.output_dir).parent)
    if folder is None:
        _users(settings)  # data that are not there leave no run that would go on
        settings = absolute(settings)
        folder = RunFolder.start(settings, overrides, nodes=1)
    with readable_disk_errors(), folder:
        settings = own_settings(folder.state, overrides)
        if settings.stages != [CENTRALISED.name]:
            raise FedmemError(f"{shown(folder.path)} holds a run of fedmem.simulate, no other.")
        if not folder.state.done:
            try:
                with make_progress() as progress, trackers(settings, folder) as told:
                    CentralTraining(settings, folder, [progress, *told]).run()
                    folder.end_run(settings)
            except KeyboardInterrupt as error:
                raise KeyboardInterrupt(how_to_go_on(folder.path, CENTRALISED.name)) from error
        return settings, read_results(folder)


@hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name="config", version_base="1.3")
def _hydra_main(config: DictConfig) -> None:
    with readable_exit():
        settings = to_settings(config)
        share = share_of(settings.simulation, jobs_at_a_time(), workers=False)
        settings = replace(settings, simulation=share)
        place = Path(settings.output_dir).parent
        settings, results = train_centrally(settings, list(HydraConfig.get().overrides.task), place)
        print_results(results, settings)


def main() -> None:
    """The command; exits with 2 for a mistake that the user can mend, 130 for Ctrl-C."""
    run_command(_hydra_main)


if __name__ == "__main__":
    main()
