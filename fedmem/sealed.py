"""Files that are whole or not there: written aside, flushed, put in place, and sealed by hashes."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fedmem.errors import FedmemError
from fedmem.parameters import Parameters, content_hash

METADATA_KEY = "fedmem"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` when the block ends without an error.

    By then it is on the disk, so that not even a power cut leaves a part of it under the name.

    Raises:
        OSError: by the name of `path`; what was there before stays.
    """
    # By process: one that is about to die may still be writing beside the one that follows it.
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):
            if _is_of_the_dead(left):
                left.unlink(missing_ok=True)
        yield partial
        flush(partial)
        os.replace(partial, path)
        flush(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # where there can be none
            partial.unlink()


def _is_of_the_dead(partial: Path) -> bool:
    """Whether the process that wrote this has ended before its file was in place."""
    try:
        os.kill(int(partial.suffixes[-2][1:]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        pass
    return False


def flush(path: Path) -> None:
    """Have the disk hold what was written to a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_sealed(path: Path, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name and what is to be known of them, which JSON can hold.

    Raises:
        OSError: the file could not be written; what was there before stays.
    """
    about = {**about, "hash": content_hash(tensors)}
    about["seal"] = _seal(about)
    whole = {name: value.contiguous() for name, value in tensors.items()}
    content = save(whole, metadata={METADATA_KEY: json.dumps(about)})
    with replacing(path) as partial:
        partial.write_bytes(content)


def load_sealed(path: Path, kind: str) -> tuple[dict[str, Any], Parameters]:
    """What `save_sealed` was given: (about, with the tensors' `hash` in it; tensors).

    Args:
        path: of the file.
        kind: what it is meant to be, for messages.

    Raises:
        FedmemError: it cannot be read, is no file of fedmem, or is not what was written.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(METADATA_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise FedmemError(f"{path} cannot be read as a {kind}: {error}.") from error
    if about is None:
        raise FedmemError(f"{path} is a safetensors file, but no {kind} of fedmem.")
    try:
        seal, expected = about.pop("seal"), about["hash"]
    except (AttributeError, KeyError, TypeError) as error:
        raise of_another_version(path, error) from error
    if seal != _seal(about) or content_hash(tensors) != expected:
        raise FedmemError(f"{path} is damaged: its content does not match its own hash.")
    return about, tensors


def of_another_version(path: Path, error: Exception) -> FedmemError:
    """The error where something that must be in a file is missing from it, or stands too much."""
    return FedmemError(f"{path} is damaged, or of another version of fedmem: {error}.")


def _seal(about: Mapping[str, Any]) -> str:
    """Hash of what stands beside the tensors, their own hash included."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
