"""Item features as files hold them: a matrix by item id, or rows that are keyed by it.

A matrix (`.pt`, `.npy`, `.safetensors`) has the vector of the item with id n in row n, so it wants
ids that are whole numbers from 0. A keyed file gives the id of each row: `.npz` as two arrays,
`ids` and `vectors`; `.parquet` as an item column, and either one column of lists or one column a
dimension. Nothing that a file holds is executed. Large files are mapped, not read, where the format
allows: `.npy`, `.safetensors` and torch's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from torch import Tensor

from fedmem.core.data.columns import find_column
from fedmem.core.data.ids import Ids, encode
from fedmem.core.data.values import BadValue
from fedmem.core.errors import FedmemError, first_line
from fedmem.core.files.torch_file import plain, read_torch_file


@dataclass(frozen=True)
class Vectors:
    """A file's rows."""

    rows: Tensor | npt.NDArray[Any]
    """[R, W]; an array may be mapped from the file."""
    ids: Ids | None = None
    """[R] the item of each row; None: the item's id is the row's number."""

    def take(self, places: npt.NDArray[np.int64]) -> Tensor:
        """Rows [n, W] at these places, as floats; a place of -1 gives zeros."""
        rows = self.rows[np.maximum(places, 0)]
        if not isinstance(rows, Tensor):
            with np.errstate(over="ignore"):  # what is too large becomes infinite
                rows = torch.from_numpy(rows.astype(np.float32))
        taken = rows.float()
        taken[torch.from_numpy(places < 0)] = 0.0
        return taken


def read_vectors(path: Path, item_column: str | None) -> Vectors:
    """Open a file of item features; its suffix determines the format.

    Of Parquet the item column is the one named like that of the interactions, where there is one;
    else it is found by the names that are known, `id` among them.

    Raises:
        FedmemError: it is of no known format, is damaged, or holds anything but numbers in rows.
    """
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise FedmemError(f"{path} is of no format for features: {', '.join(_READERS)} are.")
    try:
        vectors = _READERS[suffix](path, item_column)
    except FedmemError:
        raise
    except BadValue as bad:
        raise FedmemError(f"{path}, row {bad.row + 1}: the item {bad}.") from bad
    except Exception as error:
        raise FedmemError(
            f"{path} holds no vectors that can be read safely: {first_line(error)[:200]}."
        ) from error
    rows = vectors.rows
    if isinstance(rows, Tensor):
        numeric = not rows.is_complex() and rows.dtype != torch.bool
    else:
        numeric = rows.dtype.kind in "fiu"
    if len(rows.shape) != 2 or not numeric:
        raise FedmemError(
            f"{path} must hold one matrix of numbers [items, width], and holds "
            f"{rows.dtype} of shape {list(rows.shape)}."
        )
    if not all(rows.shape):
        raise FedmemError(f"{path} has no vectors: its matrix has shape {list(rows.shape)}.")
    if vectors.ids is not None and len(vectors.ids) != len(rows):
        raise FedmemError(f"{path} has {len(vectors.ids)} ids and {len(rows)} vectors.")
    return vectors


def _read_torch(path: Path, _item_column: str | None) -> Vectors:
    rows = read_torch_file(path, mapped=True)
    if isinstance(rows, dict) and len(rows) == 1:  # as of an nn.Embedding, by its name
        (rows,) = rows.values()
    if not isinstance(rows, Tensor):
        held = f"{len(rows)} in a {type(rows).__name__}" if isinstance(rows, dict | list) else ""
        raise FedmemError(
            f"{path} must hold one tensor, and holds {held or f'a {type(rows).__name__}'}.\n"
            "Save the matrix alone, torch.save(matrix, FILE), or ids and vectors in an .npz file."
        )
    return Vectors(plain(rows, str(path)))


def _read_npy(path: Path, _item_column: str | None) -> Vectors:
    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(rows, np.ndarray):
        raise FedmemError(f"{path} is an archive of arrays: call it {path.stem}.npz.")
    return Vectors(rows)


def _read_safetensors(path: Path, _item_column: str | None) -> Vectors:
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        if len(names) != 1:
            raise FedmemError(f"{path} must hold one tensor, and holds {len(names)}.")
        return Vectors(file.get_tensor(names[0]))


def _read_npz(path: Path, _item_column: str | None) -> Vectors:
    with np.load(path, allow_pickle=False) as file:
        if not {"ids", "vectors"} <= set(file.files):
            raise FedmemError(f"{path} must hold ids and vectors, and holds {sorted(file.files)}.")
        return _keyed(file["vectors"], pa.chunked_array([file["ids"].ravel()]))


def _read_parquet(path: Path, item_column: str | None) -> Vectors:
    file = pq.ParquetFile(path, memory_map=True)
    names = file.schema_arrow.names
    asked = item_column if item_column in names else None
    item = find_column("item", names, asked, row_is_item=True)
    if item is None:
        raise FedmemError(
            f"{path} has no item column that is known by its name; its columns are "
            f"{', '.join(names[:8])}.\nGive it the name item_id."
        )
    is_list = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    lists = [each.name for each in file.schema_arrow if any(kind(each.type) for kind in is_list)]
    if len(lists) > 1:
        raise FedmemError(f"{path} has more than one column of vectors: {', '.join(lists)}.")
    others = lists or [name for name in names if name != item]
    table = file.read([item, *others])
    given = np.zeros(len(table), dtype=bool)
    for column in table.select(others).columns:
        given |= column.is_valid().to_numpy()
    places = np.flatnonzero(given)
    if len(places) < len(table):  # an item without a vector counts as absent
        table = table.take(places)
    rows = _of_lists(path, table[lists[0]]) if lists else _of_columns(path, table.select(others))
    try:
        return _keyed(rows, table[item])
    except BadValue as bad:
        raise BadValue(int(places[bad.row]), str(bad)) from bad


def _of_lists(path: Path, column: pa.ChunkedArray) -> npt.NDArray[Any]:
    lists = column.combine_chunks()
    widths = np.unique(pc.list_value_length(lists).to_numpy(zero_copy_only=False))
    if not len(widths):
        raise FedmemError(f"{path} has no vectors.")
    if len(widths) > 1:
        raise FedmemError(
            f"{path} has vectors of {len(widths)} widths, from {widths[0]} to {widths[-1]}: all "
            "must have the same."
        )
    rows: npt.NDArray[Any] = lists.flatten().to_numpy(zero_copy_only=False)
    return rows.reshape(len(lists), int(widths[0]))


def _of_columns(path: Path, table: pa.Table) -> npt.NDArray[Any]:
    for field in table.schema:
        if not (pa.types.is_integer(field.type) or pa.types.is_floating(field.type)):
            raise FedmemError(f"{path}: column {field.name!r} is of type {field.type}, no number.")
    columns = [column.to_numpy().astype(np.float32) for column in table.columns]
    return np.stack(columns, axis=1) if columns else np.zeros((len(table), 0), np.float32)


def _keyed(rows: npt.NDArray[Any], ids: pa.ChunkedArray) -> Vectors:
    codes, distinct = encode(ids)
    return Vectors(rows, distinct[codes])


_READERS: dict[str, Callable[[Path, str | None], Vectors]] = {
    ".pt": _read_torch,
    ".npy": _read_npy,
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
}
