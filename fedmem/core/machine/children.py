"""Processes that we start: the environment of a Python that runs a module of ours."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def search_path() -> str:
    """Where we look for modules, for a process that is started in another folder."""
    return os.pathsep.join(each or str(Path.cwd()) for each in sys.path)


def environment(**more: str) -> dict[str, str]:
    """Ours, in which it finds the modules that we find and writes UTF-8; and `more`.

    `python -m` looks into the folder that it is called in first. Where we do not, as a program of
    this environment, what lies there under our name is not taken for us.
    """
    here = {"", str(Path.cwd())}
    safe = {} if here & set(sys.path) else {"PYTHONSAFEPATH": "1"}
    return {**os.environ, "PYTHONIOENCODING": "utf-8", **safe, **more}
