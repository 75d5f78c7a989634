"""`python -m fedmem.simulate`: a federation on simulated nodes, by Flower's Ray simulation."""

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
from pathlib import Path
from types import FrameType

import hydra
import torch
from flwr.simulation import run_simulation
from hydra.errors import HydraException
from omegaconf import DictConfig
from rich.console import Console

from fedmem.checkpoint import load_parents
from fedmem.client_app import app as client_app
from fedmem.cluster import backend_config, survey
from fedmem.configuration import CONFIG_MODULE, readable, to_settings
from fedmem.data import load_content, load_histories, print_summary, write_id_files
from fedmem.errors import INTERRUPTED_EXIT_CODE, FedmemError, readable_exit
from fedmem.exchange import Interrupted
from fedmem.participants import participants
from fedmem.placement import Placement, place
from fedmem.precision import check_precision
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
    address = settings.simulation.ray_address
    placement = place(settings, survey(address), count_users(settings))
    if address is None:
        check_precision(settings.client.precision, torch.device(placement.device))
    announce(settings, placement)
    settings = placement.settle(settings)
    output = Path(settings.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    write_id_files(output, load_histories(settings).warm)
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
        with stop_on_interrupt(run.stop):
            run_simulation(
                server_app=make_server_app(serve),
                client_app=client_app,
                num_supernodes=placement.nodes,
                backend_config=backend_config(address, placement),
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
    histories = load_histories(settings)
    num_users, nodes = count_users(settings), settings.federation.nodes
    if nodes != "auto" and nodes > num_users:
        raise FedmemError(f"federation.nodes={nodes}, but only {num_users} users take part.")
    stages = [find_stage(name) for name in settings.stages]
    if any(stage.content for stage in stages):
        load_content(settings.data, histories.warm)
        if histories.cold.num_items:
            load_content(settings.data, histories.cold)
    made_here: set[str] = set()
    for stage in stages:
        if not made_here.issuperset(stage.requires):
            load_parents(settings, stage, histories.warm.fingerprint)
        made_here.add(stage.name)


def count_users(settings: Settings) -> int:
    """Users that take part.

    Raises:
        FedmemError: the data are not there, or have fewer than are asked for.
    """
    num_users = load_histories(settings).warm.num_users
    return len(participants(settings.federation, num_users, settings.seed))


def announce(settings: Settings, placement: Placement) -> None:
    """Say what is about to run, since Ray takes some seconds to start."""
    print_summary(settings.data, content=any(find_stage(name).content for name in settings.stages))
    histories = load_histories(settings)
    cold = f" and {histories.cold.num_items:,} cold ones" if histories.cold.num_items else ""
    line = (
        f"{settings.data.name}: {count_users(settings):,} users, "
        f"{histories.warm.num_items:,} items{cold}; "
        f"{placement.nodes} nodes on {placement.workers} workers "
        f"of {placement.threads} threads, {placement.device}"
    )
    Console().print(line, markup=False, highlight=False, soft_wrap=True)


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
