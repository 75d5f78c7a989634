"""Vectors as the recommender reads them: unit length, in a file by row or by item id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fedmem.core.files.atomic import replacing

Vectors = npt.NDArray[np.floating]


def reduce_by_pca(vectors: Vectors, size: int) -> tuple[npt.NDArray[np.float64], float]:
    """Project [N, W] on its first principal components: [N, size], share of variance kept."""
    values = np.asarray(vectors, dtype=np.float64)
    centred = values - values.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    # The sign of a component is arbitrary: make its largest loading positive.
    axes *= np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1))
    variance = singular**2
    return centred @ axes[:size].T, float(variance[:size].sum() / variance.sum())


def write_features(
    folder: Path, name: str, all_ids: Sequence[str], ids: Sequence[str], vectors: Vectors
) -> Path:
    """Write vectors, at unit length and in float16, to a file that `data.…_file` takes.

    Where ids are whole numbers without wide gaps: `name.pt`, a tensor [largest id + 1, W] whose row
    is the item id, zeros where an item has no vector. Else `name.npz`: `ids` [N] and `vectors`
    [N, W] of the items that have one. `all_ids` are those of the whole table.
    """
    values = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    unit = np.divide(values, length, out=np.zeros_like(values), where=length > 0).astype(np.float16)
    whole = all(re.fullmatch(r"[1-9]\d*", item) for item in all_ids)
    largest = max(map(int, all_ids)) if whole else 0
    by_row = whole and largest <= max(10 * len(all_ids), 10_000)  # else the gaps are wide
    path = folder / f"{name}.{'pt' if by_row else 'npz'}"
    with replacing(path) as partial, partial.open("wb") as file:
        if by_row:
            rows = np.zeros((largest + 1, unit.shape[1]), dtype=np.float16)
            rows[[int(item) for item in ids]] = unit
            torch.save(torch.from_numpy(rows), file)
        else:
            np.savez(file, ids=np.array(ids, dtype=np.str_), vectors=unit)
    return path
