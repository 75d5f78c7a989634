"""Folders of runs: one that nobody else has, and none left behind where nothing began."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

OF_HYDRA = {"hydra"}
"""What Hydra puts into a run's folder."""
OF_A_SWEEP = "multirun.yaml"


def new_folder(wanted: str) -> str:
    """Make a folder and return it: `wanted`, or `wanted-2` and so on where others were quicker.

    Where none can be made, `wanted` is returned; whoever writes there meets the reason.
    """
    path = Path(wanted)
    for number in itertools.count(2):
        try:
            path.mkdir(parents=True)
            return str(path)
        except FileExistsError:
            path = Path(f"{wanted}-{number}")
        except OSError:
            break
    return wanted


def remove_unused(made: Path) -> None:
    """Remove a folder in which no run began; so too those above it, to where we are, if empty."""
    made = made.absolute()
    if not made.is_dir() or not {each.name for each in made.iterdir()} <= OF_HYDRA:
        return
    shutil.rmtree(made)
    folder, here = made.parent, Path.cwd()
    while folder != here and folder.is_relative_to(here):
        if [each.name for each in folder.iterdir()] == [OF_A_SWEEP]:
            (folder / OF_A_SWEEP).unlink()
        try:
            folder.rmdir()
        except OSError:  # it holds something
            return
        folder = folder.parent
