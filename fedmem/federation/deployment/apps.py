"""The two apps of the bundle that `flwr run` sends to a SuperLink, as `pyproject.toml` names them.

The ClientApp is the one of the simulation. The ServerApp runs the stages of the simulation on the
nodes that are connected, and writes what a run leaves behind in the SuperLink's working folder.
"""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedmem.core.console import say, show_anything
from fedmem.core.errors import FedmemError
from fedmem.core.files.folders import remove_unused
from fedmem.federation.client_app import app as client
from fedmem.federation.server_app import Run
from fedmem.messaging.packing import pack_messages_of
from fedmem.runs.configuration import compose_settings
from fedmem.runs.folder import RunFolder
from fedmem.runs.progress import make_progress, print_results
from fedmem.runs.resume import absolute, go_on, own_settings
from fedmem.runs.tracking import trackers

__all__ = ["client", "server"]

OUTPUT_DIR = "'${new_folder:runs/${data.name}/${now:%Y-%m-%d_%H-%M-%S}}'"  # as a simulation's

server = ServerApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Run the stages that `overrides` of the run's configuration ask for, or what is left of them.

    Raises:
        FedmemError: as `Run` and `go_on`; Flower logs it, and the run has failed.
    """
    logging.getLogger("flwr").setLevel(logging.ERROR)  # a line a round, of no news
    show_anything()
    folder, made = None, None
    try:
        overrides = shlex.split(str(context.run_config["overrides"]))
        settings = compose_settings(overrides, OUTPUT_DIR)
        made = Path(settings.output_dir)
        folder = go_on(settings, overrides, Path(settings.output_dir).parent)
        if folder is None:
            folder = RunFolder.start(absolute(settings), overrides)
        else:
            say(f"{folder.path}: goes on {folder.state}")
        with folder:
            settings = own_settings(folder.state, overrides)
            pack_messages_of(grid)
            with make_progress() as progress, trackers(settings, folder) as observers:
                results = Run(settings, [progress, *observers], folder=folder)(grid)
            print_results(results, settings)
    except FedmemError as error:
        sys.tracebacklimit = 0  # its one or two lines are enough
        if folder is None or folder.state.done:
            raise
        raise FedmemError(f"{error}\nGo on with run.resume={folder.path}") from None
    finally:
        if made is not None:
            remove_unused(made)
