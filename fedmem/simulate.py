"""`python -m fedmem.simulate`: a federation on this machine, by Flower's Ray simulation."""

from __future__ import annotations

import os

# Before Flower and Ray are imported: neither may report usage.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import logging
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import hydra
from flwr.simulation import run_simulation
from hydra.errors import HydraException
from omegaconf import DictConfig
from rich.console import Console

from fedmem.checkpoint import load_parents
from fedmem.client_app import app as client_app
from fedmem.configuration import CONFIG_MODULE, readable, to_settings
from fedmem.data import load_content, load_interactions
from fedmem.errors import INTERRUPTED_EXIT_CODE, FedmemError, readable_exit
from fedmem.exchange import Interrupted
from fedmem.participants import participants
from fedmem.progress import make_progress
from fedmem.results import MetricsFile, print_results, write_results
from fedmem.server_app import Run, StageResult, make_server_app
from fedmem.settings import Settings
from fedmem.stages import find_stage


def simulate(settings: Settings) -> list[StageResult]:
    """Run the stages of a run on simulated nodes and write what came out to `output_dir`.

    Raises:
        FedmemError: the settings, the data or a checkpoint do not allow it.
        KeyboardInterrupt: Ctrl-C; finished stages keep their checkpoints.
    """
    check(settings)
    settings = fit_to_machine(settings)
    announce(settings)
    output = Path(settings.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    results: list[StageResult] = []
    failures: list[BaseException] = []
    with make_progress() as progress, MetricsFile(output / "metrics.jsonl") as metrics:
        run = Run(settings, [progress, metrics])

        def serve(grid: object) -> None:
            try:
                results.extend(run(grid))  # type: ignore[arg-type]
            except Interrupted:
                pass
            except BaseException as error:  # noqa: BLE001 - raised again below, in the main thread
                failures.append(error)

        quiet_libraries()
        workers = settings.simulation.workers
        with stop_on_interrupt(run.stop):
            run_simulation(
                server_app=make_server_app(serve),
                client_app=client_app,
                num_supernodes=settings.federation.nodes,
                backend_config={
                    "init_args": {
                        "num_cpus": workers,
                        "include_dashboard": False,
                        "log_to_driver": False,
                        "logging_level": logging.ERROR,
                    },
                    "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                },
            )
        shutil.rmtree(output / "frozen", ignore_errors=True)
    if run.stop.is_set():
        raise KeyboardInterrupt
    if failures:
        raise failures[0]
    write_results(output / "results.json", settings, results)
    return results


def check(settings: Settings) -> None:
    """Find what can be found wrong before anything is started.

    Raises:
        FedmemError: as `simulate`.
    """
    interactions = load_interactions(settings.data)
    users = participants(settings.federation, interactions.num_users, settings.seed)
    if settings.federation.nodes > len(users):
        raise FedmemError(
            f"federation.nodes={settings.federation.nodes}, but only {len(users)} users take part."
        )
    stages = [find_stage(name) for name in settings.stages]
    made_here: set[str] = set()
    for stage in stages:
        if not made_here.issuperset(stage.requires):
            load_parents(settings, stage, interactions.fingerprint)
        made_here.add(stage.name)
    if any(stage.content for stage in stages):
        load_content(settings.data, interactions)


def announce(settings: Settings) -> None:
    """Say what is about to run, since Ray takes some seconds to start."""
    interactions = load_interactions(settings.data)
    users = participants(settings.federation, interactions.num_users, settings.seed)
    simulation = settings.simulation
    line = (
        f"{settings.data.name}: {len(users):,} users, {interactions.num_items:,} items; "
        f"{settings.federation.nodes} nodes on {simulation.workers} workers "
        f"of {simulation.threads} threads"
    )
    Console().print(line, markup=False, highlight=False, soft_wrap=True)


def fit_to_machine(settings: Settings) -> Settings:
    """Settings with workers and threads that this machine's cores can carry."""
    cores = len(os.sched_getaffinity(0))
    simulation = settings.simulation
    workers = simulation.workers or min(settings.federation.nodes, cores)
    threads = simulation.threads or max(1, cores // workers)
    return replace(settings, simulation=replace(simulation, workers=workers, threads=threads))


@contextmanager
def stop_on_interrupt(stop: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C end the run from within, a second one at once.

    An exception in the main thread would leave Flower's worker threads waiting for Ray forever.
    """

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(INTERRUPTED_EXIT_CODE)
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def quiet_libraries() -> None:
    """Keep Flower's and Ray's own lines out of the progress display; errors still show."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")


@hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name="config", version_base="1.3")
def _hydra_main(config: DictConfig) -> None:
    with readable_exit():
        settings = to_settings(config)
        print_results(simulate(settings), settings)


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
