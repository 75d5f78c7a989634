"""Check a run before it starts, or after it has finished.

    python -m fedmem.doctor stage=align_projectors data=ml-1m data.dir=FOLDER
    python -m fedmem.doctor --run runs/ml-100k/TIME

It prints a line for each check: `ok`, `warning` or `problem`, a figure, and what to do. It exits
with 0 if all is well, 1 for a warning, and 2 for a problem or a mistake on the command line.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from fedmem.core.commands import command_parser
from fedmem.core.errors import readable_exit


def main() -> None:
    """The command."""
    parser = command_parser("doctor", __doc__)
    parser.add_settings()
    parser.add_argument("--run", type=Path, metavar="DIR", help="look at the finished run in DIR")
    asked = parser.parse_with_settings()
    if asked.run and asked.settings:
        parser.error(f"--run brings its own settings, so leave out {asked.settings[0]}")
    from fedmem.doctor.case import Case  # torch, which --help needs not
    from fedmem.doctor.checks import examine
    from fedmem.doctor.finding import print_findings
    from fedmem.runs.configuration import compose_settings

    with readable_exit():
        case = Case.of_run(asked.run) if asked.run else Case(compose_settings(asked.settings))
        worst = print_findings(examine(case), Console())
    sys.exit(int(worst))


if __name__ == "__main__":
    main()
