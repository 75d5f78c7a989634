"""Sealed files: tensors and what is said of them, in one safetensors file that proves itself.

The file carries a hash of its tensors and a seal over everything beside them. It is under its name
whole or not at all, and a reader that finds a byte changed says so.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fedmem.errors import FedmemError
from fedmem.parameters import Parameters, content_hash


def write_sealed(path: Path, kind: str, about: Mapping[str, Any], tensors: Parameters) -> None:
    """Write a file: complete under its name, or not at all.

    Args:
        path: its name; missing folders are made.
        kind: key under which `about` stands in the file, and which its reader asks for.
        about: what is said of the tensors; anything that JSON can hold.
        tensors: by name.
    """
    sealed = {**about, "hash": content_hash(tensors)}
    sealed["seal"] = _seal(sealed)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    whole = {name: value.contiguous() for name, value in tensors.items()}
    save_file(whole, partial, metadata={kind: json.dumps(sealed)})
    os.replace(partial, path)


def read_sealed(path: Path, kind: str) -> tuple[dict[str, Any], Parameters] | None:
    """What `write_sealed` wrote as `about` and `tensors`; None where the file is of another kind.

    Raises:
        FedmemError: it is no safetensors file, or damaged.
    """
    metadata, tensors = read_safetensors(path)
    if kind not in metadata:
        return None
    try:
        about = json.loads(metadata[kind])
        seal = about.pop("seal")
        whole = seal == _seal(about) and about.pop("hash") == content_hash(tensors)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FedmemError(
            f"{path} is damaged: what it says of itself cannot be read ({type(error).__name__})."
        ) from error
    if not whole:
        raise FedmemError(f"{path} is damaged: its content does not match its own hash.")
    return about, tensors


def is_sealed(path: Path, kind: str) -> bool:
    """Whether a file says that it is sealed and of this kind; only its first bytes are read.

    Raises:
        FedmemError: it is not there.
    """
    if not path.is_file():
        raise FedmemError(f"There is no file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            return kind in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return False


def read_safetensors(path: Path) -> tuple[dict[str, str], Parameters]:
    """Metadata and tensors of any safetensors file; nothing in it can run.

    Raises:
        FedmemError: it is none, or cut short.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, tensors
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FedmemError(f"{path} cannot be read as a safetensors file: {reason}.") from error


def _seal(about: Mapping[str, Any]) -> str:
    """Hash of what stands beside the tensors, their own hash included."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
