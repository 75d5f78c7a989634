"""Look into a checkpoint, or import a foreign backbone.

    python -m fedmem.checkpoint inspect FILE
    python -m fedmem.checkpoint import FILE --to FOLDER data=ml-1m

Of a file of another program it lists what fits, what does not, and why.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from fedmem.core.commands import SETTINGS, command_parser
from fedmem.core.console import say
from fedmem.core.errors import readable_exit
from fedmem.runs.configuration import compose_settings

INSPECT = "what a file holds: stage, data, sizes, parents, parameter groups"
IMPORT = "take the backbone of a file as a checkpoint of stage 1, and list what is left"


def main() -> None:
    """The command."""
    parser = command_parser("checkpoint", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    looking = commands.add_parser("inspect", help=INSPECT, description=INSPECT)
    looking.add_argument("file", type=Path)
    taking = commands.add_parser(
        "import",
        help=IMPORT,
        description=IMPORT,
        epilog=f"Then data and sizes: data=ml-1m data.dir=FOLDER model.dim=64. {SETTINGS}",
    )
    taking.add_argument("file", type=Path)
    taking.add_argument("--to", type=Path, required=True, metavar="DIR", help="checkpoint.dir")
    arguments, settings = parser.parse_known_args()
    if settings and arguments.command == "inspect":
        parser.error(f"inspect takes one file, and no {settings[0]}")
    from fedmem.core.checkpoint.importing import import_backbone  # torch, which --help needs not
    from fedmem.core.checkpoint.inspection import inspect, left_list

    console = Console()
    with readable_exit():
        if arguments.command == "inspect":
            console.print(inspect(arguments.file))
            return
        made = import_backbone(arguments.file, arguments.to, compose_settings(settings))
        if made.left:
            console.print(left_list(made.left), "")
        say(
            f"{len(made.taken)} tensors of the backbone are in {made.path}; "
            f"{len(made.left)} were left.\n"
            f"Loss on training items {made.loss:.2f}; a guess would have {made.guess:.2f}."
        )


if __name__ == "__main__":
    main()
