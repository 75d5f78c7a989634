"""Tensors and what is to be known of them in one file, sealed by hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from fedmem.core.errors import FedmemError, first_line
from fedmem.core.files.tensors import write_tensors
from fedmem.core.model.parameters import Parameters, content_hash

METADATA_KEY = "fedmem"


def save_sealed(path: Path, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name and what is to be known of them, which JSON can hold.

    Raises:
        OSError: the file could not be written; what was there before stays.
    """
    about = {**about, "hash": content_hash(tensors)}
    about["seal"] = _seal(about)
    write_tensors(path, tensors, {METADATA_KEY: json.dumps(about)})


def load_sealed(path: Path, kind: str) -> tuple[dict[str, Any], Parameters]:
    """What `save_sealed` was given: (about, with the tensors' `hash` in it; tensors).

    Messages say what `kind` of file it should be.

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
    return FedmemError(f"{path} is damaged, or of another version of fedmem: {first_line(error)}.")


def _seal(about: Mapping[str, Any]) -> str:
    """Hash of what stands beside the tensors, their own hash included."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
