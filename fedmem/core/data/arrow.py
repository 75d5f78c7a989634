"""Files of Arrow's own formats, Parquet and Feather, packed or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

from fedmem.core.data.files import open_bytes, packing, readable
from fedmem.core.errors import FedmemError, first_line

FORMS = {b"PAR1": "parquet", b"ARROW1": "feather"}
"""By the bytes that a file begins with."""


def form_of(head: bytes) -> str | None:
    """`parquet` or `feather`, by a file's first bytes; None: neither."""
    return next((form for start, form in FORMS.items() if head.startswith(start)), None)


def schema_of(path: Path, form: str) -> pa.Schema:
    """The names and types of a file's columns.

    Raises:
        FedmemError: it cannot be read as this form.
    """
    with _readable_as(path, form):
        source = _source(path)
        return pq.read_schema(source) if form == "parquet" else pa.ipc.open_file(source).schema


def read_arrow(path: Path, form: str, names: Sequence[str] | None = None) -> pa.Table:
    """A file's columns of these names; None: all of them.

    Raises:
        FedmemError: it cannot be read as this form.
    """
    columns = None if names is None else list(names)
    with _readable_as(path, form):
        source = _source(path)
        if form == "parquet":
            return pq.read_table(source, columns=columns, memory_map=True)
        return pa.feather.read_table(source, columns=columns)


def _source(path: Path) -> str | pa.BufferReader:
    """What Arrow reads from: the file itself, or what was packed."""
    if packing(path) is None:
        return str(path)
    with open_bytes(path) as file:
        return pa.BufferReader(file.read())


@contextmanager
def _readable_as(path: Path, form: str) -> Iterator[None]:
    try:
        with readable(path):
            yield
    except (pa.ArrowException, UnicodeError) as error:
        raise FedmemError(
            f"{path} cannot be read as {form.capitalize()}: {first_line(error)}."
        ) from error
