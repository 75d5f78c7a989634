"""`python -m fedmem.centralised`: the SASRec of stage 1, trained on pooled data. No federation.

All histories lie in one place here, which fedmem is there to avoid: this is what a federated
stage 1 is held up to. Model, loss, windows, dropout and both rankings are those of stage 1; what
differs is that one Adam takes a step on every batch of windows, in epochs over all of them.

It runs in one process, without Flower, and writes the files of a run: `metrics.jsonl` (an epoch a
line, as `round`), `results.json` and `ranks.npz`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hydra
import numpy as np
import torch
from hydra.errors import HydraException
from omegaconf import DictConfig

from fedmem.batches import RoundKey, Rows
from fedmem.checkpoint import Checkpoint
from fedmem.configuration import CONFIG_MODULE, readable, to_settings
from fedmem.data import load_interactions
from fedmem.errors import FedmemError, readable_exit
from fedmem.evaluation import RANKINGS, means
from fedmem.node import Node
from fedmem.outcomes import save_ranks
from fedmem.parameters import Parameters, initial_parameters
from fedmem.participants import participants
from fedmem.progress import make_progress
from fedmem.results import MetricsFile, print_results, write_results
from fedmem.server_app import Observer, StageResult
from fedmem.settings import Settings
from fedmem.stages import PRETRAIN_SASREC
from strategies import RoundRecord
from strategies.stage_fedavg import SELECTED_BY

CENTRALISED = replace(PRETRAIN_SASREC, name="centralised")
"""Stage 1 under another name, so that nobody takes its checkpoint or its figures for federated."""


def train_centrally(settings: Settings, observers: list[Observer]) -> StageResult:
    """Train on the pooled histories of a run's users, and keep the epoch best on validation.

    Args:
        settings: of the run; `federation.num_clients` says who takes part,
            `federation.evaluate_every` the epochs between two validations, `strategy.patience` when
            to stop.
        observers: told of every epoch.

    Raises:
        FedmemError: the data do not allow it.
    """
    started = time.monotonic()
    central = settings.centralised
    if settings.simulation.threads:
        torch.set_num_threads(settings.simulation.threads)
    settings = replace(settings, client=replace(settings.client, windows=central.windows))
    num_users = load_interactions(settings.data).num_users
    node = Node(settings, participants(settings.federation, num_users, settings.seed))
    parameters = initial_parameters(
        settings.model, CENTRALISED, node.interactions.num_items, (0, 0), settings.seed, {}
    )
    model = node.load(CENTRALISED, parameters, frozen_hash="")
    trainer = node.trainer(CENTRALISED)
    optimizer = torch.optim.Adam(trainer.scope.values(), lr=central.learning_rate)
    trained = sum(p.numel() for p in parameters.values())
    for observer in observers:
        observer.on_stage(CENTRALISED, central.epochs, trained)
    best: Parameters = parameters
    best_epoch, best_validation, since_best, epoch = 0, {SELECTED_BY: -1.0}, 0, 0
    for epoch in range(1, central.epochs + 1):
        began = time.monotonic()
        key = RoundKey(settings.seed, CENTRALISED.name, epoch)
        loss, targets = 0.0, 0
        for rows in _batches(len(node.windows), central.batch, settings.seed, epoch):
            weight = int(node.windows.lengths[rows].sum())
            loss += trainer.accumulate_gradient(rows, key, step=0)
            for parameter in trainer.scope.values():
                if parameter.grad is not None:
                    parameter.grad /= weight
            optimizer.step()
            targets += weight
        record = RoundRecord(
            CENTRALISED.name, epoch, loss=loss / targets, users=len(node.users), targets=targets
        )
        if epoch % settings.federation.evaluate_every == 0 or epoch == central.epochs:
            validating = time.monotonic()
            sums = node.rank(CENTRALISED, node.users, "validation", ("sampled",)).sums()
            validation = means(sums)
            took = time.monotonic() - validating
            record = replace(record, validation=validation, evaluation_seconds=took)
            since_best += 1
            if validation[SELECTED_BY] > best_validation[SELECTED_BY]:
                best = {name: p.detach().cpu().clone() for name, p in model.state_dict().items()}
                best_epoch, best_validation, since_best = epoch, validation, 0
        for observer in observers:
            observer.on_round(replace(record, seconds=time.monotonic() - began))
        if since_best >= settings.strategy.patience:
            break
    node.load(CENTRALISED, best, frozen_hash="")
    testing = time.monotonic()
    ranks = node.rank(CENTRALISED, node.users, "test", RANKINGS)
    save_ranks(Path(settings.output_dir), CENTRALISED.name, ranks)
    path = Path(settings.checkpoint.dir) / f"{CENTRALISED.name}.safetensors"
    Checkpoint(
        stage=CENTRALISED.name,
        catalogue=node.interactions.fingerprint,
        model=settings.model,
        round=best_epoch,
        metrics=best_validation,
        parents={},
        parameters=best,
    ).save(path)
    result = StageResult(
        stage=CENTRALISED.name,
        rounds=epoch,
        best_round=best_epoch,
        trained_parameters=trained,
        bytes_down=0.0,
        bytes_up=0.0,
        seconds=time.monotonic() - started,
        test_seconds=time.monotonic() - testing,
        validation=best_validation,
        test=means(ranks.sums()),
        threshold=None,
        memory=None,
        checkpoint=str(path),
    )
    for observer in observers:
        observer.on_result(result)
    return result


def _batches(windows: int, size: int, seed: int, epoch: int) -> Iterator[Rows]:
    """All windows once, in an order that the seed and the epoch give."""
    order = np.random.default_rng([seed, epoch]).permutation(windows)
    for start in range(0, windows, size):
        yield order[start : start + size]


def run(settings: Settings) -> list[StageResult]:
    """Train, and write what a run writes to `output_dir`."""
    output = Path(settings.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    with make_progress() as progress, MetricsFile(output / "metrics.jsonl") as metrics:
        results = [train_centrally(settings, [progress, metrics])]
    write_results(output / "results.json", settings, results)
    return results


@hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name="config", version_base="1.3")
def _hydra_main(config: DictConfig) -> None:
    with readable_exit():
        settings = to_settings(config)
        print_results(run(settings), settings)


def main() -> None:
    """The command; exits with 2 for a mistake that the user can mend, 130 for Ctrl-C."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's errors come here, to be made readable
    with readable_exit():
        try:
            _hydra_main()
        except HydraException as error:
            raise FedmemError(readable(error)) from error


if __name__ == "__main__":
    main()
