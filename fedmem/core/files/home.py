"""`~` in the name of a file: settings and options mean by it what a shell does."""

from __future__ import annotations

import os
import re


def at_home(text: str) -> str:
    """A path with `~` or `~user` at its start as the folder that it stands for; others as they are.

    A shell does so too, but not within `key=~/x`, in quotes or in a file.
    """
    begins = re.match(r"~[\w.-]*(?=/|$)", text)
    return os.path.expanduser(text) if begins else text  # noqa: PTH111 - it may not be known
