"""What left this device: from the node's own record, or the record of the run.

Nothing here looks at a history.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedmem.core.errors import FedmemError
from fedmem.core.model import Recommender
from fedmem.core.privacy.accounting import epsilon as epsilon_of
from fedmem.core.privacy.ledger import releases_of
from fedmem.core.stages import STAGES, Stage
from fedmem.federation.sent import FILE as SENT
from fedmem.federation.sent import read_sent
from fedmem.runs.checkpoints import hashes_of
from fedmem.runs.folder import RESULTS, ROUNDS, STATE, shown
from fedmem.runs.state import LAST
from fedmem.serve.model import ServedModel
from fedmem.serve.schemas import Departures, StageDeparture

NEVER = [
    "your history itself; what an upload gives away of it stands above",
    "what the memory holds",
    "what is recommended to you, and what you try here",
    "what you had forgotten",
]


def find_run(runs: Path, stage: str, checkpoint: str) -> Path | None:
    """The newest run below a folder that made this checkpoint, by its hash; None: none is known."""
    states = [*runs.glob(f"*/{STATE}/{LAST}"), *runs.glob(f"*/*/{STATE}/{LAST}")]
    for path in sorted(states, key=lambda each: each.stat().st_mtime, reverse=True):
        if hashes_of(path.parents[1]).get(stage) == checkpoint:
            return path.parents[1]
    return None


def departures(run: Path | None, node: Path | None, served: ServedModel) -> Departures:
    """What is recorded.

    Args:
        run: folder of the run that trained, where it is on this machine.
        node: folder that a real node keeps as its own.
        served: says what a stage's scope is, and what the checkpoint says of its privacy.
    """
    model = served.model
    epsilon, delta = spent(run, served)
    if node is not None and (node / SENT).is_file():
        return Departures(
            source=shown(node / SENT),
            nodes="this node's own replies",
            stages=_by_stage(read_sent(node), model, bytes_key="bytes"),
            epsilon=epsilon,
            delta=delta,
            never=NEVER,
        )
    if run is None:
        return Departures(
            source="",
            nodes="no record of a run is on this device",
            stages=[],
            epsilon=epsilon,
            delta=delta,
            never=NEVER,
        )
    records = [record for record in _lines(run / ROUNDS) if record.get("round")]
    return Departures(
        source=shown(run / ROUNDS),
        nodes="all nodes of this run together",
        stages=_by_stage(records, model, bytes_key="bytes_up"),
        epsilon=epsilon,
        delta=delta,
        never=NEVER,
    )


def spent(run: Path | None, served: ServedModel) -> tuple[float | None, float | None]:
    """(ε, δ) that were spent: by the run's records, else by the checkpoint's releases at the δ of
    the settings. Both are None where neither keeps a ledger, ε alone where it cannot be counted
    here: some releases take dp-accounting, an extra.
    """
    delta = served.node.settings.privacy.delta
    lines = _lines(run / ROUNDS) if run is not None else []
    found = [each["epsilon"] for each in lines if each.get("epsilon") is not None]
    if found and run is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            results = json.loads((run / RESULTS).read_text(encoding="utf-8"))
            delta = float(results["settings"]["privacy"]["delta"])
        return float(found[-1]), delta
    released = served.checkpoint.released
    if released is not None:
        with contextlib.suppress(FedmemError):
            return epsilon_of(releases_of(released), delta), delta
        return None, delta
    return None, None


def _by_stage(
    records: Iterable[Mapping[str, Any]], model: Recommender, bytes_key: str
) -> list[StageDeparture]:
    by_stage: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        by_stage.setdefault(str(record.get("stage")), []).append(record)
    found = []
    for name, own in by_stage.items():
        stage = STAGES.get(name)
        sizes = _scope_of(stage, model) if stage else {}
        found.append(
            StageDeparture(
                stage=name,
                rounds=len({record.get("round") for record in own}),
                messages=sum(int(record.get("messages", 1)) for record in own),
                bytes_up=sum(int(record.get(bytes_key, 0)) for record in own),
                bytes_down=sum(int(record.get("bytes_down", 0)) for record in own),
                parameters=sum(sizes.values()) or None,
                scope=list(sizes),
            )
        )
    return found


def _scope_of(stage: Stage, model: Recommender) -> dict[str, int]:
    """Numbers in each module that a stage trains, as far as the served model has it."""
    sizes: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        if stage.in_scope(name):
            module = "item_emb" if "item_emb" in name else name.partition(".")[0]
            sizes[module] = sizes.get(module, 0) + parameter.numel()
    return sizes


def _lines(path: Path) -> list[dict[str, Any]]:
    """Records of a file that may be written just now."""
    found = []
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return found
