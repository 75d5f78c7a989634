"""Train the stages on simulated nodes of this machine.

    python -m fedmem.simulate stage=all data=ml-1m data.dir=FOLDER

Nodes are Flower's, simulated on this machine or on a Ray cluster. A run leaves its checkpoints,
`results.json`, `metrics.jsonl` and a state from which it goes on in a folder of its own, and ends
with a table.
"""

from __future__ import annotations

import os

# Before Flower and Ray are imported: neither may report usage, nor Ray what it tries again, as it
# does when its workers end.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_enable_output_error_log_if_still_retry", "0")

from fedmem.core.machine.workers import import_ahead, leave_ahead, workers_of
from fedmem.runs.command_line import answer_help, job, jobs_at_a_time, run_command

NODE = "fedmem.federation.client_app:answer"
"""What workers run: it answers a node's messages."""

if __name__ == "__main__":
    answer_help(__doc__)  # before the imports below, which take seconds
    import_ahead(NODE)  # beside them

import contextlib
import logging
import shutil
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from fedmem.core.console import say
from fedmem.core.data import load_histories, print_summary, write_id_files
from fedmem.core.data.identity import identity
from fedmem.core.data.sampling import participants, sample_ranked
from fedmem.core.errors import FedmemError, readable_disk_errors
from fedmem.core.machine.cluster import backend_config, joined, survey
from fedmem.core.machine.placement import Placement, share_of
from fedmem.core.machine.placement import place as place_nodes
from fedmem.core.machine.precision import check_precision
from fedmem.core.machine.ray_trouble import trouble
from fedmem.core.settings import Settings
from fedmem.core.signals import HeldBack
from fedmem.doctor.case import Case
from fedmem.doctor.checks import preflight
from fedmem.doctor.finding import print_findings
from fedmem.federation import client_app
from fedmem.federation.server_app import Run, make_server_app
from fedmem.messaging.exchange import Interrupted
from fedmem.messaging.simulation_internals import answered_by, light_workers, quick_messages
from fedmem.runs.configuration import CONFIG_MODULE
from fedmem.runs.folder import FROZEN, NODES, RunFolder, shown
from fedmem.runs.progress import make_progress, print_results
from fedmem.runs.records import StageResult
from fedmem.runs.resume import absolute, go_on, own_settings, saying_how_to_go_on
from fedmem.runs.tracking import trackers
from fedmem.strategies.aggregation import require_enough


def simulate(
    settings: Settings, overrides: Sequence[str] = (), place: Path | None = None
) -> tuple[Settings, list[StageResult]]:
    """Run the stages of a run on simulated nodes and write what comes out to `output_dir`.

    Args:
        settings: of the run; what `run.resume` names goes on with its own.
        overrides: what of them was asked for on the command line.
        place: where `run.resume=auto` looks; None: beside `output_dir`.

    Returns:
        The settings of the run, which are its own where it goes on, and what the stages came to;
        the last one may have had to stop, see `StageResult.stopped`.

    Raises:
        FedmemError: the settings, the data, a checkpoint or the disk do not allow it.
        KeyboardInterrupt: Ctrl-C; the run can go on.
    """
    if settings.data.first_index:
        raise FedmemError("data.first_index is for real nodes: leave it at 0 in a simulation.")
    with readable_disk_errors(), contextlib.ExitStack() as opened:
        folder = go_on(settings, overrides, place or Path(settings.output_dir).parent)
        if folder is not None:
            opened.enter_context(folder)
            settings = own_settings(folder.state, overrides)
            if folder.state.done:
                say(f"{shown(folder.path)}: this run is done, there is nothing left to do.")
                return settings, folder.results
            say(f"{shown(folder.path)}: goes on {folder.state}")
        warned = preflight(Case(settings))
        address = settings.simulation.ray_address
        placement = place_nodes(settings, survey(address), len(participants(settings)))
        require_enough(settings.strategy, placement.nodes)
        if address is None:
            check_precision(settings.client.precision, torch.device(placement.device))
        announce(settings, placement)
        print_findings(warned, Console())
        if folder is None:
            settings = absolute(settings)
            folder = RunFolder.start(settings, overrides, placement.nodes, identity(settings))
            opened.enter_context(folder)
            write_id_files(folder.path, settings)
        with saying_how_to_go_on(folder):
            settings = placement.settle(settings)
            return settings, run_stages(settings, placement, folder)


def run_stages(settings: Settings, placement: Placement, folder: RunFolder) -> list[StageResult]:
    """Run what is left of a run on the nodes of Flower's simulation; its settings are settled.

    Raises:
        FedmemError: a stage cannot go on, or the workers do not start or break off.
        KeyboardInterrupt: Ctrl-C; the run can go on.
    """
    results: list[StageResult] = []
    failures: list[BaseException] = []
    quiet_libraries()
    with (
        HeldBack(stop := threading.Event()) as signals,
        answered(settings.simulation.ray_address, placement),
    ):
        signals.take_again()  # Ray has handlers of its own
        from flwr.simulation import run_simulation

        with (
            make_progress() as progress,
            trackers(settings, folder) as tracking,
            quick_messages(),
        ):
            keep_ranks = settings.simulation.keep_ranks
            run = Run(settings, [progress, *tracking], stop, folder=folder, keep_ranks=keep_ranks)

            def serve(grid: object) -> None:
                try:
                    results.extend(run(grid))  # type: ignore[arg-type]
                except Interrupted:
                    pass
                except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                    failures.append(error)

            try:
                run_simulation(
                    server_app=make_server_app(serve),
                    client_app=client_app.app,
                    num_supernodes=placement.nodes,
                    backend_config=backend_config(placement),
                )
            except RuntimeError as error:
                if not stop.is_set():  # a signal may end a cluster's workers too
                    stop.set()  # the ServerApp's thread would wait for nodes forever
                    raise trouble(error) from error
    shutil.rmtree(folder.path / FROZEN, ignore_errors=True)
    if folder.state.done:
        shutil.rmtree(folder.path / NODES, ignore_errors=True)
    if stop.is_set() and not folder.state.done:
        signals.deliver()
    if failures:
        raise failures[0]
    return results


@contextlib.contextmanager
def answered(address: str | None, placement: Placement) -> Iterator[None]:
    """Who answers the messages of a simulation's nodes: workers of its own, or a cluster's.

    Raises:
        FedmemError: the workers do not start, or the cluster cannot be joined.
    """
    if address is not None:
        leave_ahead()
        with joined(address), light_workers():
            yield
        return
    with workers_of(NODE) as workers:
        workers.fork(placement.variables())
        with answered_by(workers):
            yield


def announce(settings: Settings, placement: Placement) -> None:
    """Say what is about to run."""
    print_summary(settings.data, settings.reads_content)
    histories = load_histories(settings)
    cold = f" and {histories.cold.num_items:,} cold ones" if histories.cold.num_items else ""
    users = participants(settings)
    ranked = len(sample_ranked(settings, users))
    sampled = f", {ranked:,} of them ranked" if ranked < len(users) else ""
    say(
        f"{settings.data.name}: {len(users):,} users{sampled}, "
        f"{histories.warm.num_items:,} items{cold}; "
        f"{placement.nodes} nodes on {placement.workers} workers "
        f"of {placement.threads} threads, {placement.device}"
    )


def quiet_libraries() -> None:
    """Keep Flower's and Ray's own lines out of the progress display; errors still show."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")


@hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name="config", version_base="1.3")
def _hydra_main(config: DictConfig) -> None:
    with job(config) as settings:
        called, place = HydraConfig.get(), Path(settings.output_dir).parent
        if called.mode == RunMode.MULTIRUN:
            place = place.parent
        share = share_of(settings.simulation, jobs_at_a_time())
        asked = replace(settings, simulation=share)
        settings, results = simulate(asked, list(called.overrides.task), place)
        if results:
            print_results(results, settings, data_here=True)
        for result in results:
            if result.stopped:
                raise FedmemError(
                    f"{result.stopped}\nIts best round is kept: {shown(result.checkpoint)}"
                )


def main() -> None:
    """The command; exits with 2 for a mistake that the user can mend, 130 for Ctrl-C, 143 for
    SIGTERM.
    """
    run_command(_hydra_main)


if __name__ == "__main__":
    main()
