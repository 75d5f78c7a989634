"""Make a table and a page of plots from any set of runs.

    python -m fedmem.report runs/experiments/ml-100k --against full

Runs that differ in nothing but the seed are one arm. The table is printed; the page, the table as
Markdown and every figure as CSV are written.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fedmem.core.commands import command_parser
from fedmem.core.console import say
from fedmem.core.errors import FedmemError, readable_exit, readable_file_errors
from fedmem.core.files.atomic import replacing


def report(arguments: Sequence[str], console: Console) -> None:
    """Read the runs that the arguments name, print their table and write the report's files.

    Raises:
        FedmemError: a folder holds no run, a run cannot be read, or there is no place to write to.
    """
    args = _options(arguments)
    from fedmem.report.page import make_page  # matplotlib and pandas, which --help needs not
    from fedmem.report.runs import find_runs, read_runs
    from fedmem.report.study import Study
    from fedmem.report.tables import differences_frame, runs_frame
    from fedmem.report.text import print_tables, to_markdown
    from fedmem.runs.folder import shown

    runs, unread = read_runs(find_runs(args.runs), args.data_dir)
    study = Study.of(runs, args.against, unread)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FedmemError(f"--out={args.out} can be no folder: {error.strerror}.") from error
    print_tables(study, console)
    html, left_out = make_page(study, shlex.join(["python", "-m", "fedmem.report", *arguments]))
    made_with = [f"Made with {line}." for line in study.made_with]
    for line in ["", *made_with, *left_out, *(f"{note}." for note in study.notes)]:
        say(line, console)
    files = {
        "report.html": html,
        "report.md": to_markdown(study),
        "runs.csv": runs_frame(study).to_csv(index=False),
        "differences.csv": differences_frame(study).to_csv(index=False),
    }
    for name, content in files.items():
        with replacing(args.out / name) as partial:
            partial.write_text(content, encoding="utf-8")
    say("written: " + ", ".join(shown(args.out / name) for name in files), console)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = command_parser("report", __doc__)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUNS", help="folders of runs, or of sweeps and experiments")
    add("--against", metavar="ARM", help="the arm that the others are compared with")
    where = "of their data, if not where the runs found them"
    add("--data-dir", type=Path, metavar="DIR", help=where)
    add("--out", type=Path, default=Path("runs/report"), metavar="DIR", help="default: %(default)s")
    return parser.parse_args(arguments)


def main() -> None:
    """The command; exits with 2 for a mistake that the user can mend, 130 for Ctrl-C."""
    with readable_exit(), readable_file_errors():
        report(sys.argv[1:], Console())


if __name__ == "__main__":
    main()
