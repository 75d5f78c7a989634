"""`python -m fedmem.doctor`: look at a run before it starts, or at one that has finished.

Exits with 0 if all is well, 1 for a warning, and 2 for a problem or a mistake on the command line.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from fedmem.core.errors import readable_exit
from fedmem.doctor import Case, examine, print_findings
from fedmem.runs.configuration import compose_settings

SETTINGS = "settings as key=value, as for fedmem.simulate: stage=align_projectors data=ml-1m …"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m fedmem.doctor", description=__doc__, epilog=f"Then {SETTINGS}"
    )
    parser.add_argument("--run", type=Path, metavar="DIR", help="look at the finished run in DIR")
    arguments, settings = parser.parse_known_args()
    if arguments.run and settings:
        parser.error(f"--run brings its own settings, so leave out {settings[0]}")
    with readable_exit():
        run = arguments.run
        case = Case.of_run(run) if run else Case(compose_settings(settings))
        worst = print_findings(examine(case), Console())
    sys.exit(int(worst))


if __name__ == "__main__":
    main()
