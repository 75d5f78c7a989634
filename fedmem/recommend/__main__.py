"""List a user's best items, and the parts of their scores.

    python -m fedmem.recommend --user 42 data=ml-1m data.dir=FOLDER

Give it the settings of the run that made the checkpoint.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from fedmem.core.commands import Parser, command_parser
from fedmem.core.errors import readable_exit


def main() -> None:
    """The command; exits with 2 for a mistake that the user can mend."""
    args = parser().parse_intermixed_args()
    from fedmem.recommend.listing import list_items  # torch, which --help needs not

    with readable_exit():
        list_items(args, Console())


def parser() -> Parser:
    """The command's options; whatever else stands on its line is settings of the run."""
    made = command_parser("recommend", __doc__)
    made.add_settings()
    who = made.add_mutually_exclusive_group(required=True)
    history = "the data's own ids of items, oldest first; again for each id that holds a comma"
    who.add_argument("--user", metavar="ID", help="a user of the data, by the data's own id")
    who.add_argument("--history", action="append", metavar="ID,ID,…", help=history)
    made.add_argument("--top-k", type=int, default=10, metavar="K", help="how many; default: 10")
    made.add_argument("--stage", help="whose checkpoint; default: the last that has one")
    new = "ids and titles; those that the model does not know are recommended by content alone"
    for option, metavar, meaning in (
        ("--titles", "FILE", "titles by id; default: a usual name in data.dir"),
        ("--new-items", "TABLE", new),
        ("--new-visual", "FILE", "their visual vectors; default: those of data.visual_file"),
        ("--new-text", "FILE", "their text vectors; default: those of data.text_file"),
    ):
        made.add_argument(option, type=Path, metavar=metavar, help=meaning)
    return made


if __name__ == "__main__":
    main()
