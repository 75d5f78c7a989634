"""Files of interactions: opened whether gzipped or not, and their lines with numbers, bounded."""

from __future__ import annotations

import codecs
import gzip
import io
import itertools
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from fedmem.core.errors import FedmemError

MAX_LINE = 1 << 20
"""Characters of a line at most: none is longer in a file of interactions."""


def is_gzip(path: Path) -> bool:
    """Whether the content is gzipped, whatever the name says."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def open_bytes(path: Path) -> BinaryIO:
    """The file's bytes, unpacked where they are gzipped."""
    return cast(BinaryIO, gzip.open(path)) if is_gzip(path) else path.open("rb")


def parquet_source(path: Path) -> str | pa.BufferReader:
    """What Arrow reads Parquet from: the file itself, or what was gzipped."""
    if not is_gzip(path):
        return str(path)
    with open_bytes(path) as file:
        return pa.BufferReader(file.read())


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the system says of a file that it cannot give into a `FedmemError`."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FedmemError(f"{path} is a damaged gzip file: {error}.") from error
    except OSError as error:
        raise FedmemError(f"{path} cannot be read: {error.strerror or error}.") from error


def numbered_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line, without its end.

    Raises:
        FedmemError: a line is too long or not of the encoding, the gzip data are cut short, or the
            system cannot read the file.
    """
    with readable(path), open_bytes(path) as file:
        if encoding == "utf-8" and file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise FedmemError(f"{path} starts as UTF-16 does: set data.encoding=utf-16.")
        file.seek(0)
        python_name = "utf-8-sig" if encoding == "utf-8" else encoding
        with io.TextIOWrapper(file, python_name, "surrogateescape", newline=None) as text:
            for number in itertools.count(1):
                try:
                    line = text.readline(MAX_LINE + 1)
                except (EOFError, zlib.error) as error:
                    raise FedmemError(
                        f"{path} is cut short or damaged: its gzip data end after line "
                        f"{number - 1} ({error})."
                    ) from error
                except UnicodeError as error:
                    raise _not_encoded(path, number, encoding) from error
                if not line:
                    return
                if len(line) > MAX_LINE:
                    raise FedmemError(
                        f"{path}, line {number} is longer than {MAX_LINE:,} characters: this is "
                        "no file of interactions, or its line ends are missing."
                    )
                if not line.isascii() and any("\udc80" <= c <= "\udcff" for c in line):
                    raise _not_encoded(path, number, encoding)
                yield number, line.rstrip("\r\n")


def _not_encoded(path: Path, number: int, encoding: str) -> FedmemError:
    other = "latin-1" if encoding == "utf-8" else "utf-8"
    return FedmemError(
        f"{path}, line {number} is not text in {encoding}.\n"
        f"Say which encoding it is, for example data.encoding={other}."
    )
