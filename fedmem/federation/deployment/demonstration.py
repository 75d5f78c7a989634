"""A federation on this machine, from dealing out the data to the end: `fedmem.federation.demo`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedmem.core.console import say
from fedmem.core.data import load_interactions
from fedmem.core.data.content import KINDS
from fedmem.core.errors import FedmemError
from fedmem.core.settings import DataSettings
from fedmem.federation.deployment.local_federation import LocalFederation
from fedmem.runs.configuration import compose_settings
from fedmem.runs.folder import RESULTS, shown

NODES = 3
FEW_ROUNDS = ("federation.rounds=5", "federation.evaluate_every=5")


def deal_out(data: DataSettings, folder: Path, nodes: int) -> list[str]:
    """Give each node the histories of its users, in a folder of its own below `folder`.

    Users have the same indices as in the whole data. What is returned is the `--node-config` of
    each node.
    """
    interactions = load_interactions(data)
    catalogue = folder / "catalogue.txt"
    catalogue.write_text("".join(f"{own}\n" for own in interactions.item_ids[1:]), encoding="utf-8")
    configs = []
    for node, users in enumerate(np.array_split(np.arange(interactions.num_users), nodes)):
        own = folder / f"data-{node}"
        own.mkdir()
        file = own / "interactions.txt"
        with file.open("w", encoding="utf-8") as lines:
            for user in users:
                for item in interactions.history(int(user)):
                    lines.write(f"{interactions.user_ids[user]} {interactions.item_ids[item]}\n")
        for vectors in filter(None, (getattr(data, key) for key in KINDS.values())):
            shutil.copy(Path(data.dir) / vectors, own)
        configs.append(f'data="{file}" catalogue="{catalogue}" first-index={users[0]} threads=1')
    return configs


def demonstrate(overrides: Sequence[str], folder: Path) -> None:
    """Run the stages on a federation in a folder, which is made, or empty.

    Raises:
        FedmemError: the data are not there, or the run failed.
    """
    asked = [*FEW_ROUNDS, *overrides, f"federation.nodes={NODES}"]
    data = compose_settings(asked).data
    folder.mkdir(parents=True, exist_ok=True)
    configs = deal_out(data, folder, NODES)
    say(f"{shown(folder)}: a SuperLink and {NODES} SuperNodes start, with certificates and keys")
    with LocalFederation(folder, configs) as federation:
        for name, process in federation.processes.items():
            say(f"  {name}: process {process.pid}, {shown(federation.log(name))}")
        with federation.run(*asked, "output_dir=run", "checkpoint.dir=checkpoints") as running:
            assert running.stdout is not None
            for line in running.stdout:
                say(line.rstrip("\n"))
    if not (folder / "run" / RESULTS).is_file():
        raise FedmemError("The run failed, see above.")
    say(f"{shown(folder)} holds the run, checkpoints, keys, logs and what the nodes remember")
