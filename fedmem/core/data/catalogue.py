"""The items that all nodes of a federation choose from, where each has seen only some of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fedmem.core.data.files import numbered_lines
from fedmem.core.data.ids import Ids, comparable, to_ids
from fedmem.core.errors import FedmemError
from fedmem.core.settings import DataSettings


def catalogue(settings: DataSettings, seen: Ids) -> Ids:
    """Ids of all items, ascending: those of `data.catalogue_file`, or those seen here.

    Args:
        settings: of the data.
        seen: ids of the items of the interactions, ascending.

    Raises:
        FedmemError: the file cannot be read, has no ids, or lacks an item that was seen.
    """
    if settings.catalogue_file is None:
        return seen
    path = Path(settings.dir) / settings.catalogue_file
    lines = [text.strip() for _, text in numbered_lines(path, settings.encoding)]
    ids: Ids = np.unique(to_ids(pa.array([line for line in lines if line], pa.string())))
    if not len(ids):
        raise FedmemError(f"{path} is empty: it must hold the ids of all items, one a line.")
    lacking = np.setdiff1d(*comparable(seen, ids))
    if len(lacking):
        raise FedmemError(
            f"The catalogue {path} lacks item {lacking[0]} of these data: all nodes need one and "
            "the same, with the items of each."
        )
    return ids


def places(ids: Ids, of: Ids) -> npt.NDArray[np.intp]:
    """Places [n] of ids in a catalogue that has them all."""
    ids, of = comparable(ids, of)
    order = np.argsort(of)
    found: npt.NDArray[np.intp] = order[np.searchsorted(of, ids, sorter=order)]
    return found
