"""From settings to what is served: where this node's data, users, memories and runs are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fedmem.core.arrays import UserIndices
from fedmem.core.data import load_histories
from fedmem.core.data.sampling import participants
from fedmem.core.settings import Settings
from fedmem.federation.node_config import read_node_config, require_whole
from fedmem.federation.node_settings import residents, settle_here, users_here
from fedmem.runs.folder import NODES
from fedmem.serve.app import Desk
from fedmem.serve.departures import find_run
from fedmem.serve.engine import Engine
from fedmem.serve.new_items import Encoders
from fedmem.serve.pictures import Pictures

Users = Callable[[], UserIndices]


def find_node(
    settings: Settings, node_config: str
) -> tuple[Settings, UserIndices, Users, Path | None]:
    """Settings as they are true here; who may be served; who of them trains; the node's own folder.

    Without a node's configuration all users of the data live here.

    Raises:
        FedmemError: the configuration or the data do not allow it.
    """
    if node_config:
        config = read_node_config(node_config)
        require_whole(config)
        settings = settle_here(settings, config)
        return (
            settings,
            residents(settings, config),
            lambda: users_here(settings, config),
            Path(settings.output_dir),
        )
    everybody = load_histories(settings).warm.num_users
    here = np.arange(settings.data.first_index, everybody)
    return settings, here, lambda: participants(settings), None


def find_encoders(text_model: str | None, image_model: str | None) -> Encoders:
    """The encoders that new items are encoded by, as far as they are named.

    Raises:
        FedmemError: one cannot be had.
    """
    if not (text_model or image_model):
        return Encoders()
    from fedmem.features.encoders import find_encoder  # of an extra

    return Encoders(
        find_encoder(text_model, "text", "cpu") if text_model else None,
        find_encoder(image_model, "image", "cpu") if image_model else None,
    )


def make_desk(
    settings: Settings,
    here: UserIndices,
    users: Users,
    node: Path | None,
    stage: str | None,
    run: Path | None,
    titles: Mapping[str, str],
    encoders: Encoders,
) -> Desk:
    """All that the API needs; the arguments are those of `find_node` and of the command.

    Raises:
        FedmemError: there is no checkpoint that fits, no pictures where they should be, or an
            encoder of another width.
    """
    data = settings.data
    pictures = Pictures(Path(data.dir) / data.pictures) if data.pictures is not None else None
    folders: list[Path] = []
    engine = Engine(settings, here, users, stage, lambda: _stores(folders))
    served = engine.served
    encoders.check(served)
    if run is None:
        run = find_run(Path("runs") / data.name, served.stage.name, served.hash)
    folders += [each for each in (node, run) if each is not None]
    return Desk(engine, titles, pictures, encoders, run, node)


def _stores(folders: Sequence[Path]) -> list[Path]:
    """A node's own folder, and those of the nodes that a run simulated, as they are now."""
    return [*folders, *(own for folder in folders for own in sorted(folder.glob(f"{NODES}/*")))]
