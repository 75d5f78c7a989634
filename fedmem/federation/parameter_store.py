"""Parameters that a node keeps under their content hash: a frozen rest, or a scope."""

from __future__ import annotations

import contextlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from fedmem.core.files.tensors import write_tensors
from fedmem.core.model.parameters import Parameters, content_hash

KEPT = 4
"""Files in a folder: a run has one for each stage, and a node has a run at a time."""


class ParameterStore:
    """Parameters by content hash, in this process and in a folder that processes share.

    The folder keeps the latest few; a node that lacks one that is asked for gets it again.

    Args:
        folder: where files are kept; made when the first is put.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, Parameters] = {}

    def get(self, key: str) -> Parameters | None:
        """The parameters of this hash; None where they are not here or are damaged."""
        if key not in self._held:
            path = self._path(key)
            if not path.is_file():
                return None
            try:
                parameters = load_file(path)
            except SafetensorError:
                return None
            if content_hash(parameters) != key:
                return None
            self._held = {key: parameters}  # a node trains one stage at a time
        return self._held[key]

    def take(self, key: str) -> Parameters | None:
        """The same, to write to: what is held of them in this process is held no more."""
        found = self.get(key)
        self._held.pop(key, None)
        return found

    def put(self, parameters: Parameters) -> str:
        """Keep parameters; their hash."""
        key = content_hash(parameters)
        self._held = {key: parameters}
        write_tensors(self._path(key), parameters)
        self._remove_oldest()
        return key

    def _remove_oldest(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # another process may remove them too
            files = sorted(
                self._folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime
            )
            for file in files[:-KEPT]:
                file.unlink()

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"
