"""JSON records, one a line or all in an array, and the columns of interactions in them.

A line may also be a dict as Python writes it, as in Amazon's files of 2014.

Arrow parses lines where all of a column's values are of one type, as its first ones are; whatever
it cannot, Python does, and says which record is wrong.
"""

from __future__ import annotations

import ast
import codecs
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json

from fedmem.core.data.files import MAX_LINE, numbered_lines, open_bytes, readable
from fedmem.core.errors import FedmemError, first_line

Record = dict[str, Any]
Columns = dict[str, pa.ChunkedArray]
"""By role."""

KEY = re.compile(rb'"(?:[^"\\]|\\.)*"\s*:' + rb"|'(?:[^'\\]|\\.)*'\s*:")
ARRAY = re.compile(rb"(\xef\xbb\xbf)?\s*\[\s*[\[{\]]")
"""How a file begins that holds records in an array."""
PYTHON = re.compile(r"\s*\{\s*u?'")
"""How a line begins that holds a dict of Python, which JSON never does."""


def read_records(path: Path, encoding: str = "utf-8") -> Iterator[tuple[str, Record]]:
    """Place (`line 7`, or `record 7` of an array) and content of each record.

    Raises:
        FedmemError: the file cannot be read, or what stands at a place is no JSON object.
    """
    with readable(path), open_bytes(path) as file:
        is_array = ARRAY.match(file.read(512)) is not None
    for place, value in (_array if is_array else _lines)(path, encoding):
        if not isinstance(value, dict):
            raise FedmemError(f"{path}, {place} is no JSON object: {_shown(value)}.")
        yield place, value


def parse(line: str) -> Any:
    """What a line holds: JSON, or Python's way of writing a dict of numbers and text.

    Raises:
        ValueError: it is neither.
    """
    try:
        return json.loads(line)
    except RecursionError as error:
        raise ValueError(error) from error
    except ValueError:
        if PYTHON.match(line) is None:
            raise
        try:
            return ast.literal_eval(line.strip())  # which executes nothing
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise ValueError(f"{first_line(error)}, in a dict of Python") from error


def _lines(path: Path, encoding: str) -> Iterator[tuple[str, Any]]:
    for number, line in numbered_lines(path, encoding):
        if line.strip():
            try:
                value = parse(line)
            except ValueError as error:
                raise FedmemError(f"{path}, line {number} is no JSON: {error}.") from error
            yield f"line {number}", value


def _array(path: Path, encoding: str) -> Iterator[tuple[str, Any]]:
    name = "utf-8-sig" if encoding == "utf-8" else encoding
    with readable(path), open_bytes(path) as file:
        content = file.read()
    try:
        values = json.loads(content.decode(name))
    except UnicodeError as error:
        raise FedmemError(f"{path} is not text in {encoding}: set data.encoding.") from error
    except (ValueError, RecursionError) as error:
        raise FedmemError(f"{path} is no JSON array: {error}.") from error
    for number, value in enumerate(values, 1):
        yield f"record {number}", value


def all_names(path: Path) -> list[str]:
    """The names in all records that stand one a line, in the order in which they appear."""
    names: dict[str, None] = {}
    seen: set[bytes] = set()
    with readable(path), open_bytes(path) as file:
        for line in file:
            new = set(KEY.findall(line)) - seen
            if new:
                seen |= new
                try:
                    value = parse(line.decode(errors="replace"))
                except ValueError:
                    continue  # the reader says where it stands
                names |= dict.fromkeys(value if isinstance(value, dict) else ())
    return list(names)


def read_columns(
    path: Path, roles: Mapping[str, str], sample: Sequence[Record] | None, encoding: str
) -> Columns:
    """The columns of the roles, nulls where a record lacks one.

    Args:
        path: the file.
        roles: name of each role's column.
        sample: the first records, where they stand one a line; None: they are in an array.
        encoding: of the text.

    Raises:
        FedmemError: a record is none, or a value of it is neither a number nor text.
    """
    if sample is not None and codecs.lookup(encoding).name == "utf-8":
        kinds = {name: _kind([record.get(name) for record in sample]) for name in roles.values()}
        schema = pa.schema([(name, kind) for name, kind in kinds.items() if kind is not None])
        try:
            if len(schema) == len(kinds):
                return _by_arrow(path, roles, schema)
        except (pa.ArrowException, UnicodeError):
            pass  # a later value is of another type, or wrong: Python finds out
    values: dict[str, list[Any]] = {role: [] for role in roles}
    for place, record in read_records(path, encoding):
        for role, name in roles.items():
            value = record.get(name)
            if not _allowed(value, role):
                raise FedmemError(f"{path}, {place} has {_shown(value)} as its {role} ({name}).")
            values[role].append(value)
    return {role: pa.chunked_array([_as_array(column)]) for role, column in values.items()}


def _by_arrow(path: Path, roles: Mapping[str, str], schema: pa.Schema) -> Columns:
    with open_bytes(path) as file:
        table = pa.json.read_json(
            file,
            pa.json.ReadOptions(use_threads=False, block_size=MAX_LINE),
            pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    return {role: table[name] for role, name in roles.items()}


def _allowed(value: Any, role: str) -> bool:
    if role == "history" and isinstance(value, list):
        return all(type(each) in (int, str) for each in value)
    return value is None or type(value) in (int, float, str)


def _kind(values: Sequence[Any]) -> pa.DataType | None:
    """The type of values that are all of one, apart from nulls; None: they are not, or lists."""
    of = {type(value) for value in values if value is not None}
    if of == {int, float}:
        return pa.float64()
    simple = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    return simple.get(of.pop()) if len(of) == 1 else None


def _as_array(values: list[Any]) -> pa.Array:
    """Text where any is, or where a number is too large; lists of text where any is a list."""
    if any(isinstance(value, list) for value in values):
        lists = [[value] if isinstance(value, int | float | str) else value for value in values]
        texts = [None if each is None else list(map(str, each)) for each in lists]
        return pa.array(texts, pa.list_(pa.string()))
    kind = _kind(values)
    if kind is not None:
        with suppress(OverflowError, pa.ArrowInvalid):
            return pa.array(values, kind)
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"
