"""Per-user outcomes: the ranks behind a run's averages, for paired statistics.

`ranks.npz` in a run's folder holds those of the test, of every finished stage, as arrays of int32:

- `<stage>/users` [U]: indices of users, ascending, and `<stage>/sampled`, `<stage>/full` [U]: rank
  of each one's held-out item, 0 = first;
- `<stage>/cold_users` [C] and the rankings of `fedmem.core.evaluation.cold` [C], where
  `evaluation.cold_items` keeps items from training.

A user is identified by an index into the data, never by name. Only a simulation, or training on
pooled data, has this file: in a real federation no rank leaves its node.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedmem.core.arrays import Ints
from fedmem.core.errors import FedmemError
from fedmem.core.evaluation.protocol import COLD_USERS, USERS, Ranks, count_of
from fedmem.core.files.atomic import replacing

FILE = "ranks.npz"

Outcomes = dict[str, Ranks]
"""The ranks of one evaluation, by the name that their users are counted under: `users`, and
`cold_users` where there are any."""


@dataclass(frozen=True)
class Evaluation:
    """What ranking users' held-out items came to.

    Attributes:
        metrics: means over users, by `<ranking>/<metric>`.
        users: that were ranked.
        drawn_from: users that they are a sample of; None: of all no sample was drawn.
        memory: figures of the memories, summed over users; None where they are off.
        outcomes: each user's ranks, where they were asked for.
        seconds: wall time.
        traffic: bytes of the messages and replies, by direction and kind.
    """

    metrics: dict[str, float]
    users: int
    drawn_from: int | None
    memory: dict[str, float] | None
    outcomes: Outcomes
    seconds: float
    traffic: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes of all messages and replies."""
        return sum(sum(kinds.values()) for kinds in self.traffic.values())


def to_arrays(outcomes: Mapping[str, Ranks]) -> dict[str, Ints]:
    """Users and rankings by name, as they travel and are kept."""
    arrays: dict[str, Ints] = {}
    for count, ranks in outcomes.items():
        arrays |= {count: ranks.users, **ranks.ranks}
    return arrays


def from_arrays(arrays: Mapping[str, Ints]) -> Outcomes:
    """The inverse of `to_arrays`."""
    found = {count: Ranks(arrays[count], {}) for count in (USERS, COLD_USERS) if count in arrays}
    for name, array in arrays.items():
        if name not in found:
            found[count_of(name)].ranks[name] = array
    return found


def joined(parts: Sequence[Outcomes]) -> Outcomes:
    """Those of several nodes together, users ascending; empty where no node sent any."""
    found: Outcomes = {}
    for count in parts[0] if parts else ():
        own = [part[count] for part in parts]
        users = np.concatenate([ranks.users for ranks in own])
        order = np.argsort(users)
        rankings = {n: np.concatenate([r.ranks[n] for r in own])[order] for n in own[0].ranks}
        found[count] = Ranks(users[order], rankings)
    return found


def sums_of(outcomes: Mapping[str, Ranks]) -> dict[str, float]:
    """The sums of every metric over users, and how many users there are: all that a node sends."""
    return {n: x for count, ranks in outcomes.items() for n, x in ranks.sums(count).items()}


def save_outcomes(folder: Path, stage: str, outcomes: Mapping[str, Ranks]) -> None:
    """Put a stage's ranks into the run's file: complete under its name, or not at all.

    Raises:
        OSError: the disk does not take it.
    """
    kept = {**load_outcomes(folder), stage: outcomes}
    arrays = {f"{s}/{name}": a for s, own in kept.items() for name, a in to_arrays(own).items()}
    with replacing(folder / FILE) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_outcomes(folder: Path) -> dict[str, Outcomes]:
    """The outcomes of every stage in a run's folder; none where it has no file.

    Raises:
        FedmemError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        with np.load(path) as file:
            arrays = dict(file)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise FedmemError(f"{path} cannot be read: {error}.") from error
    stages: dict[str, dict[str, Ints]] = {}
    for name, array in arrays.items():
        stage, _, own = name.partition("/")
        stages.setdefault(stage, {})[own] = array
    return {stage: from_arrays(own) for stage, own in stages.items()}
