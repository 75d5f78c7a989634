"""The data's own ids of users and items: whole numbers where all are, else text; the catalogue."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fedmem.core.data.arrow import form_of
from fedmem.core.data.columns import find_column
from fedmem.core.data.files import beginning, numbered_lines
from fedmem.core.data.values import BadValue, is_missing
from fedmem.core.errors import FedmemError
from fedmem.core.settings import DataSettings

Ids = npt.NDArray[Any]
"""int64, or objects that are all `str`."""
LISTED = 3
"""Ids that an error message lists as examples."""


def encode(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], Ids]:
    """Codes [N] of a column's ids, and the distinct ids, ascending, that they are places in.

    Raises:
        BadValue: an id is missing or empty, or of a type that cannot be an id.
    """
    codes, ids = encode_some(column, words=False)
    if len(codes) and codes.min() < 0:
        row = int(np.argmin(codes))
        null = column[row].as_py() is None
        raise BadValue(row, "is missing" if null else "is empty")
    return codes, ids


def encode_some(column: pa.ChunkedArray, words: bool) -> tuple[npt.NDArray[np.int64], Ids]:
    """As `encode`, with the code -1 where an id is missing.

    Null, nothing but blanks, and numbers that are NaN are missing, and with `words` what other
    programs write for that.

    Raises:
        BadValue: an id is of a type that cannot be one.
    """
    encoded = column.combine_chunks()
    try:
        encoded = encoded.dictionary_encode()
    except pa.ArrowNotImplementedError as error:
        raise BadValue(0, f"is of type {column.type}: ids are whole numbers or text") from error
    indices, distinct = encoded.indices, encoded.dictionary
    codes = pc.fill_null(indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    present = ~is_missing(distinct, words)
    try:
        ids = to_ids(distinct.filter(pa.array(present)))
    except BadValue as bad:
        place = int(np.flatnonzero(present)[bad.row])
        raise BadValue(int(np.argmax(codes == place)), str(bad)) from bad
    ids, order = np.unique(ids, return_inverse=True)
    if present.all() and not indices.null_count:
        return order[codes], ids
    places = np.full(len(distinct) + 1, -1)  # the last is that of nulls, whose code is -1
    places[np.flatnonzero(present)] = order
    return places[codes], ids


def to_ids(values: pa.Array) -> Ids:
    """Ids [n] from values of any type that may hold them, blanks around them taken off.

    Text counts as whole numbers where all of it is written as they are (`7`, not `07` or `7.0`) and
    fits 64 bits. Floating-point numbers must be whole, as where a program wrote ids as 7.0.

    Raises:
        BadValue: another type, or a floating-point number that is not whole or not exact.
    """
    kind = values.type
    if pa.types.is_integer(kind):
        try:
            return _array(values.cast(pa.int64()))
        except pa.ArrowInvalid:  # above 2^63
            return _array(values.cast(pa.string())).astype(object)
    if pa.types.is_floating(kind):
        floats = _array(values.cast(pa.float64()))
        exact = (floats == np.floor(floats)) & (np.abs(floats) < 2.0**53)
        if not exact.all():
            bad = int(np.argmin(exact))
            raise BadValue(bad, f"{floats[bad]} is no id: whole numbers and text are")
        return floats.astype(np.int64)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise BadValue(0, f"is of type {kind}: ids are whole numbers or text")
    text = pc.utf8_trim_whitespace(values.cast(pa.large_string()))
    with suppress(pa.ArrowInvalid):
        numbers = pc.cast(text, pa.int64())
        if pc.all(pc.equal(pc.cast(numbers, pa.large_string()), text)).as_py():
            return _array(numbers)  # 07 and 7 are two ids
    return _array(text).astype(object)


def as_text(ids: Ids) -> Ids:
    """Ids as text."""
    return ids if ids.dtype == object else ids.astype(str).astype(object)


def comparable(one: Ids, other: Ids) -> tuple[Ids, Ids]:
    """Both as text, unless both are whole numbers."""
    return (as_text(one), as_text(other)) if object in (one.dtype, other.dtype) else (one, other)


def example(ids: Ids) -> str:
    """Of ids [n] that are text, one that is not written as a whole number is."""
    texts = [str(text) for text in ids]
    return next((text for text in texts if not re.fullmatch(r"0|-?[1-9][0-9]*", text)), texts[0])


def padded(ids: Ids) -> Ids:
    """Ids with an entry before them that stands for padding: 0, or no text."""
    return np.concatenate([[0] if ids.dtype != object else np.array([""], dtype=object), ids])


def fingerprint(ids: Ids) -> str:
    """Hash of ids in their order."""
    text = ids.dtype == object
    content = json.dumps(ids.tolist()).encode() if text else ids.astype("<i8").tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def catalogue(settings: DataSettings, seen: Ids) -> Ids:
    """Ids of all items that the nodes of a federation choose from, each of which has seen some.

    They are those of `data.catalogue_file`, else those seen here; ascending, as `seen` is.

    Raises:
        FedmemError: the file cannot be read, has no ids, or lacks an item that was seen.
    """
    if settings.catalogue_file is None:
        return seen
    ids = read_catalogue(settings.dir, settings.catalogue_file, settings.encoding, seen)
    import pandas as pd  # takes half a second, and few data have a catalogue

    own, known = comparable(seen, ids)
    lacking = own[~pd.Index(own).isin(known)]  # numpy compares each text with all others
    if len(lacking):
        raise FedmemError(
            f"The catalogue {settings.catalogue_file} lacks item {lacking[0]} of these data: all "
            "nodes need one and the same, with the items of each."
        )
    return ids


def read_catalogue(folder: str, name: str, encoding: str, seen: Ids | None = None) -> Ids:
    """The ids of a catalogue file, one a line, ascending; its first line may name the column.

    Such a name is an id where it is among those that were `seen`.

    Raises:
        FedmemError: the file cannot be read, or has no ids.
    """
    path = Path(folder) / name
    if form_of(beginning(path)):
        raise FedmemError(
            f"The catalogue {path} is no text: write the ids of all items, one a line."
        )
    lines = [text.strip() for _, text in numbered_lines(path, encoding)]
    lines = [line for line in lines if line]
    known = () if seen is None else as_text(seen)
    if find_column("item", lines[:1], row_is_item=True) and lines[0] not in known:
        lines = lines[1:]
    ids: Ids = np.unique(to_ids(pa.array(lines, pa.string())))
    if not len(ids):
        raise FedmemError(f"{path} is empty: it must hold the ids of all items, one a line.")
    return ids


def places(ids: Ids, of: Ids) -> npt.NDArray[np.intp]:
    """Places [n] of ids in a catalogue that has them all."""
    ids, of = comparable(ids, of)
    order = np.argsort(of)
    found: npt.NDArray[np.intp] = order[np.searchsorted(of, ids, sorter=order)]
    return found


def _array(values: pa.Array) -> Ids:
    array: Ids = values.to_numpy(zero_copy_only=False)
    return array
