"""Run a SuperLink and three SuperNodes on this machine.

    python -m fedmem.federation.demo federation.rounds=2

MovieLens-100K is dealt out to three nodes, a third of the users to each, with files of their own;
what the nodes share is the catalogue of items and the items' vectors. All processes end with it,
also after Ctrl-C.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from fedmem.core.commands import command_parser
from fedmem.core.errors import readable_exit
from fedmem.core.files.folders import new_folder, remove_unused


def main() -> None:
    """The command; takes the settings that `python -m fedmem.simulate` takes."""
    parser = command_parser("federation.demo", __doc__)
    parser.add_settings()
    settings = parser.parse_with_settings().settings
    from fedmem.federation.deployment.demonstration import demonstrate  # torch: not for --help

    with readable_exit("All that was started is gone."):
        folder = Path(new_folder(f"runs/federation-demo/{datetime.now():%Y-%m-%d_%H-%M-%S}"))
        try:
            demonstrate(settings, folder.absolute())
        finally:
            remove_unused(folder)


if __name__ == "__main__":
    main()
