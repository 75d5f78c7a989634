"""fedmem: a federated sequential recommender whose users' histories stay where they are.

`clients`, `strategies` and `conf` lie beside this folder in a checkout and in a bundle, and in it
where fedmem is installed. Everywhere they are `fedmem.clients` and so on, found by place: what else
has such a name, in the folder that one is in or among what is installed, is none of ours.
"""

import sys
from pathlib import Path

from fedmem.core.machine.caches import provide_caches
from fedmem.core.signals import interrupted_in_a_line

__version__ = "0.1.0"
"""Also in `pyproject.toml`, where Flower reads it of a bundle, which is not installed."""

_here = Path(__file__).resolve().parent
if not (_here / "conf").is_dir():
    __path__.append(str(_here.parent))
provide_caches()  # before any library looks for its own
if sys.argv[:1] == ["-m"]:  # `python -m fedmem.…`: a command, whose imports take seconds
    interrupted_in_a_line()
