"""Files of features: each format gives the same rows, and what is none is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from fedmem.core.data.vectors import read_vectors
from fedmem.core.errors import FedmemError

ROWS = np.arange(1.0, 13.0, dtype=np.float32).reshape(4, 3)
IDS = [7, 3, 900, 5]


def fixed(rows: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def columns_of(rows: np.ndarray) -> dict[str, Any]:
    return {f"v{i}": rows[:, i] for i in range(rows.shape[1])}


MATRICES: dict[str, Callable[[Path], None]] = {
    "f.pt": lambda path: torch.save(torch.from_numpy(ROWS), path),
    "half.pt": lambda path: torch.save(torch.from_numpy(ROWS).half(), path),
    "bfloat16.pt": lambda path: torch.save(torch.from_numpy(ROWS).bfloat16(), path),
    "parameter.pt": lambda path: torch.save(torch.nn.Parameter(torch.from_numpy(ROWS)), path),
    "gradients.pt": lambda path: torch.save(torch.from_numpy(ROWS).requires_grad_(), path),
    "embedding.pt": lambda path: torch.save(
        torch.nn.Embedding.from_pretrained(torch.from_numpy(ROWS)).state_dict(), path
    ),
    "old.pt": lambda path: torch.save(
        torch.from_numpy(ROWS), path, _use_new_zipfile_serialization=False
    ),
    "f.npy": lambda path: np.save(path, ROWS),
    "whole.npy": lambda path: np.save(path, ROWS.astype(np.int16)),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(ROWS.astype(np.float64))),
    "f.safetensors": lambda path: save_file({"vectors": torch.from_numpy(ROWS)}, path),
}
KEYED: dict[str, Callable[[Path], None]] = {
    "f.npz": lambda path: np.savez(path, ids=np.array(IDS), vectors=ROWS),
    "zipped.npz": lambda path: np.savez_compressed(path, ids=np.array(IDS), vectors=ROWS),
    "lists.parquet": lambda path: pq.write_table(
        pa.table({"title": ["a"] * 4, "item_id": IDS, "vector": ROWS.tolist()}), path
    ),
    "fixed.parquet": lambda path: pq.write_table(pa.table({"id": IDS, "v": fixed(ROWS)}), path),
    "columns.parquet": lambda path: pq.write_table(
        pa.table({"movieId": IDS, **columns_of(ROWS)}), path
    ),
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_matrix_has_its_rows_by_number(name: str, tmp_path: Path) -> None:
    MATRICES[name](tmp_path / name)
    found = read_vectors(tmp_path / name, None)
    assert found.ids is None
    taken = found.take(np.array([2, -1, 0]))
    assert taken.dtype == torch.float32
    assert not taken.requires_grad
    assert taken.tolist() == [[7, 8, 9], [0, 0, 0], [1, 2, 3]]


@pytest.mark.parametrize("name", KEYED)
def test_a_keyed_file_has_its_rows_by_id(name: str, tmp_path: Path) -> None:
    KEYED[name](tmp_path / name)
    found = read_vectors(tmp_path / name, None)
    assert found.ids is not None
    assert found.ids.tolist() == IDS
    assert found.take(np.array([3, 1])).tolist() == [[10, 11, 12], [4, 5, 6]]


def test_large_files_are_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", ROWS)
    assert isinstance(read_vectors(tmp_path / "f.npy", None).rows, np.memmap)


def test_a_row_without_a_vector_in_parquet_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"item": ["a", "b", "c"], "v": [[1.0], None, [3.0]]}), path)
    found = read_vectors(path, None)
    assert (found.ids.tolist(), len(found.rows)) == (["a", "c"], 2)  # type: ignore[union-attr]


def test_the_item_column_is_named_as_the_interactions_are_or_known(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"thing": [4, 5], "v": [[1.0], [2.0]]}), path)
    assert read_vectors(path, "thing").ids.tolist() == [4, 5]  # type: ignore[union-attr]
    for column in (None, "SKU"):
        with pytest.raises(FedmemError, match=r"columns are thing, v\.\nGive it the name item_id"):
            read_vectors(path, column)
    pq.write_table(pa.table({"item_id": [4, 5], "v": [[1.0], [2.0]]}), path)
    assert read_vectors(path, "SKU").ids.tolist() == [4, 5]  # type: ignore[union-attr]


class Executes:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["f.pt", "f.npy", "f.npz", "f.safetensors", "f.parquet"])
def test_a_pickled_object_is_refused_and_not_executed(name: str, tmp_path: Path) -> None:
    path, harm = tmp_path / name, tmp_path / "harm"
    objects = np.array([Executes(harm)], dtype=object)
    if name == "f.npy":
        np.save(path, objects, allow_pickle=True)
    elif name == "f.npz":
        np.savez(path, ids=objects, vectors=objects)
    else:
        torch.save(Executes(harm), path)
    with pytest.raises(FedmemError, match=str(path)):
        read_vectors(path, None)
    assert not harm.exists()


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    for name, write in {**MATRICES, **KEYED}.items():
        path = tmp_path / name
        write(path)
        content = path.read_bytes()
        for share in (0.0, 0.3, 0.9):
            path.write_bytes(content[: int(len(content) * share)])
            with pytest.raises(FedmemError, match=str(path)) as caught:
                read_vectors(path, None)
            assert len(str(caught.value).splitlines()) == 1


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "f.csv": (lambda path: path.write_text("1,2"), "is of no format for features"),
    "one.npy": (lambda path: np.save(path, ROWS[0]), r"float32 of shape \[3\]"),
    "text.npy": (lambda path: np.save(path, np.array([["a"]])), "matrix of numbers"),
    "bool.pt": (lambda path: torch.save(torch.ones(3, 3).bool(), path), "matrix of numbers"),
    "complex.npy": (lambda path: np.save(path, ROWS + 1j), "holds complex"),
    "rows.npy": (lambda path: np.save(path, ROWS[:0]), r"has no vectors: .* shape \[0, 3\]"),
    "width.pt": (lambda path: torch.save(torch.ones(3, 0), path), r"no vectors: .* \[3, 0\]"),
    "archive.npy": (
        lambda path: np.savez(path.open("wb"), ids=[1], vectors=ROWS[:1]),
        r"call it archive\.npz",
    ),
    "sparse.pt": (
        lambda path: torch.save(torch.eye(3).to_sparse(), path),
        r"sparse\.pt is a sparse tensor: save tensor\.to_dense\(\)",
    ),
    "rows.pt": (lambda path: torch.save(torch.eye(3).to_sparse_csr(), path), "a sparse tensor"),
    "quantised.pt": (
        lambda path: torch.save(torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8), path),
        r"a quantised tensor: save tensor\.dequantize\(\)",
    ),
    "meta.pt": (lambda path: torch.save(torch.ones(3, 3, device="meta"), path), "a meta tensor"),
    "list.pt": (lambda path: torch.save([torch.ones(3)] * 2, path), "one tensor, and holds 2 in"),
    "by_id.pt": (
        lambda path: torch.save({5: torch.ones(3), 7: torch.ones(3)}, path),
        r"holds 2 in a dict\.\nSave the matrix alone, .* or ids and vectors in an \.npz file",
    ),
    "id.parquet": (
        lambda path: pq.write_table(
            pa.table({"item": ["a", "b", None], "v": [None, [1.0], [2.0]]}), path
        ),
        "row 3: the item is missing",
    ),
    "two.safetensors": (
        lambda path: save_file({"a": torch.ones(1, 1), "b": torch.ones(1, 1)}, path),
        "must hold one tensor, and holds 2",
    ),
    "names.npz": (lambda path: np.savez(path, a=ROWS), r"must hold ids and vectors"),
    "lengths.npz": (
        lambda path: np.savez(path, ids=np.arange(3), vectors=ROWS),
        "has 3 ids and 4 vectors",
    ),
    "widths.parquet": (
        lambda path: pq.write_table(pa.table({"item": [1, 2], "v": [[1.0], [1.0, 2.0]]}), path),
        "vectors of 2 widths, from 1 to 2",
    ),
    "title.parquet": (
        lambda path: pq.write_table(pa.table({"item": [1], "title": ["a"], "v": [1.0]}), path),
        "column 'title' is of type string",
    ),
    "lists.parquet": (
        lambda path: pq.write_table(pa.table({"item": [1], "a": [[1.0]], "b": [[1.0]]}), path),
        "more than one column of vectors: a, b",
    ),
    "words.parquet": (
        lambda path: pq.write_table(pa.table({"item": [1], "tags": [["a"]]}), path),
        "matrix of numbers",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_matrix_of_numbers_is_refused(name: str, tmp_path: Path) -> None:
    write, reason = BAD[name]
    write(tmp_path / name)
    with pytest.raises(FedmemError, match=reason) as caught:
        read_vectors(tmp_path / name, None)
    assert str(tmp_path / name) in str(caught.value)
