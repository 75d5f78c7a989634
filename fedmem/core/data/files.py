"""Files of data: opened whether packed or not, and their lines with numbers, bounded."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import itertools
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from fedmem.core.errors import FedmemError

MAX_LINE = 1 << 20
"""Characters of a line at most: none is longer in a file of interactions."""
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"PK\x03\x04": "zip"}
"""Forms that are unpacked as they are read, by the bytes that they begin with."""
PACKED_SUFFIXES = ("", ".gz", ".bz2", ".xz", ".zip")
FOREIGN = {
    b"(\xb5/\xfd": "packed by zstd: unpack it first",
    b'\x04"M\x18': "packed by lz4: unpack it first",
    b"\x1f\x9d": "packed by compress: unpack it first",
    b"\x93NUMPY": "an array of numpy: write it as Parquet or CSV",
    b"MATLAB": "a file of MATLAB: write it as Parquet or CSV",
    b"Obj\x01": "an Avro file: write it as Parquet or CSV",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
    b"\x89HDF": "an HDF5 file: write it as Parquet or CSV",
    b"ORC": "an ORC file: write it as Parquet or CSV",
    b"FEA1": "a Feather file of version 1: write it as Parquet, or as Feather of version 2",
    b"SQLite format 3": "an SQLite database: write the table as CSV",
    b"\xd0\xcf\x11\xe0": "a workbook of Excel: save the sheet as CSV",
    b"\x80\x02": "a pickled object, which is not opened: write it as Parquet or CSV",
    b"\x80\x03": "a pickled object, which is not opened: write it as Parquet or CSV",
    b"\x80\x04": "a pickled object, which is not opened: write it as Parquet or CSV",
    b"\x80\x05": "a pickled object, which is not opened: write it as Parquet or CSV",
    b"%PDF": "a PDF document",
    b"\x89PNG": "a picture",
    b"version https://git-lfs": "a pointer of Git LFS, not the data: fetch them with git lfs pull",
    b"<!DOCTYPE": "a page of HTML: has a download failed?",
    b"<!doctype": "a page of HTML: has a download failed?",
    b"<html": "a page of HTML: has a download failed?",
    b"<?xml": "an XML document: write it as CSV or JSON lines",
}
"""What other files are, by the bytes that they begin with."""


def packing(path: Path) -> str | None:
    """How a file is packed, by its content, whatever its name says; None: it is not."""
    with path.open("rb") as file:
        head = file.read(6)
    return next((form for start, form in PACKED.items() if head.startswith(start)), None)


def open_bytes(path: Path) -> BinaryIO:
    """The file's bytes, unpacked where they are packed.

    Raises:
        FedmemError: it is a zip archive with no or several files, a locked one, or a workbook.
    """
    form = packing(path)
    if form == "zip":
        return _open_zip(path)
    openers: dict[str | None, Callable[[Path], object]] = {
        None: lambda path: path.open("rb"),
        "gzip": gzip.open,
        "bzip2": bz2.open,
        "xz": lzma.open,
    }
    return cast(BinaryIO, openers[form](path))


def _open_zip(path: Path) -> BinaryIO:
    archive = zipfile.ZipFile(path)
    names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    if "[Content_Types].xml" in names:
        raise FedmemError(f"{path} is a workbook of Excel: save the sheet as CSV.")
    names = [name for name in names if not name.startswith("__MACOSX/")]
    if len(names) != 1:
        listed = ", ".join(names[:6]) or "no file"
        raise FedmemError(
            f"{path} is a zip archive of {listed}: unpack it and name the file that is meant."
        )
    try:
        return cast(BinaryIO, archive.open(names[0]))
    except (RuntimeError, NotImplementedError) as error:
        raise FedmemError(f"{path} cannot be unpacked ({error}): unpack it yourself.") from error


def beginning(path: Path) -> bytes:
    """The first bytes of a file, unpacked.

    Raises:
        FedmemError: they are those of a file that is known and holds no table that can be read, or
            the system cannot read the file.
    """
    with readable(path), open_bytes(path) as file:
        head = file.read(512)
    for start, what in FOREIGN.items():
        if head.startswith(start):
            raise FedmemError(f"{path} is {what}.")
    if head[257:262] == b"ustar":
        raise FedmemError(f"{path} is a tar archive: unpack it first.")
    return head


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the system says of a file that it cannot give into a `FedmemError`."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise FedmemError(f"{path} is a damaged {packing(path)} file: {error}.") from error
    except OSError as error:
        raise FedmemError(f"{path} cannot be read: {error.strerror or error}.") from error


def numbered_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line, without its end.

    Raises:
        FedmemError: a line is too long or not of the encoding, the packed data are cut short, or
            the system cannot read the file.
    """
    with readable(path):
        if encoding == "utf-8":
            with open_bytes(path) as file:
                if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                    raise FedmemError(f"{path} starts as UTF-16 does: set data.encoding=utf-16.")
        python_name = "utf-8-sig" if encoding == "utf-8" else encoding
        with (
            open_bytes(path) as file,
            io.TextIOWrapper(file, python_name, "surrogateescape", newline=None) as text,
        ):
            for number in itertools.count(1):
                try:
                    line = text.readline(MAX_LINE + 1)
                except (EOFError, zlib.error, lzma.LZMAError) as error:
                    raise FedmemError(
                        f"{path} is cut short or damaged: its {packing(path)} data end after line "
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
