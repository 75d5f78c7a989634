"""What a run was made with: the code, the packages that its figures hang on, and the machine."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from fedmem import __version__
from fedmem.core.machine.device import local_gpus

PACKAGES = ("torch", "flwr", "ray", "numpy")


@dataclass(frozen=True)
class MadeWith:
    """A part of `results.json`.

    Attributes:
        commit: `git describe` of its code, `-dirty` where that was changed since; None: it is no
            checkout.
        packages: versions of `PACKAGES`.
        cpu: model of the processor.
        cores: that the run could use.
        gpu: model of the GPUs that it computed on; None: on none.
    """

    fedmem: str
    commit: str | None
    python: str
    packages: dict[str, str]
    cpu: str
    cores: int
    gpu: str | None

    def __str__(self) -> str:
        code = f"fedmem {self.fedmem}" + (f" ({self.commit})" if self.commit else "")
        versions = {"Python": self.python, **self.packages}
        listed = ", ".join(f"{name} {version}" for name, version in versions.items())
        cores = f"{self.cores} core{'s' if self.cores > 1 else ''}"
        gpu = f" and {self.gpu}" if self.gpu else ""
        return f"{code}, {listed}, on {self.cpu} ({cores}){gpu}"


def made_with(device: str) -> MadeWith:
    """That of this process, for a `simulation.device`."""
    return MadeWith(
        fedmem=__version__,
        commit=_commit(),
        python=platform.python_version(),
        packages={name: metadata.version(name) for name in PACKAGES},
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        gpu=None if device == "cpu" or not local_gpus() else _gpu(),
    )


@functools.cache
def _commit() -> str | None:
    """Of the checkout that this code is part of, not of one that it is merely installed in."""
    own = Path(__file__)
    git = ("git", "-C", str(own.parent))
    is_part = _said(*git, "ls-files", own.name) == own.name
    return _said(*git, "describe", "--always", "--tags", "--dirty") if is_part else None


@functools.cache
def cpu_name() -> str:
    """Model of this machine's processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@functools.cache
def _gpu() -> str | None:
    """By the driver's own tool: to ask CUDA would take room on the GPU, from the workers."""
    names = (_said("nvidia-smi", "--query-gpu=name", "--format=csv,noheader") or "").splitlines()
    alike = {name: names.count(name) for name in names}
    return ", ".join(f"{n} × {name}" if n > 1 else name for name, n in alike.items()) or None


def _said(*command: str) -> str | None:
    """What a command answers; None where it cannot."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
