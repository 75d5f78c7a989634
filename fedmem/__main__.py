"""The commands of fedmem: `python -m fedmem` lists them.

`fedmem NAME …` and `python -m fedmem NAME …` run the same as `python -m fedmem.NAME …`.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from fedmem.core.commands import summary
from fedmem.core.console import show_anything
from fedmem.core.errors import FedmemError, nearest, readable_exit

COMMANDS = {
    "Data": ("download", "data", "features"),
    "Train": ("simulate", "centralised", "experiment"),
    "Protect its users": ("privacy",),
    "Look at runs and models": ("doctor", "report", "recommend", "serve", "checkpoint"),
    "Train on real machines": ("certificates", "superlink", "supernode", "federation.demo"),
    "Make parts of fedmem anew": ("runs.settings_page", "doctor.page", "features.make_ml_100k"),
}
"""Names by what they are for."""


def table() -> str:
    """Every command with what it does, a line each."""
    lines = ["usage: fedmem NAME …, or python -m fedmem.NAME …; each has a --help"]
    for purpose, names in COMMANDS.items():
        lines += ["", purpose]
        lines += [f"  {name:<20} {summary(file_of(name))}" for name in names]
    return "\n".join(lines)


def file_of(name: str) -> Path:
    """The file that holds a command."""
    path = Path(__file__).parent.joinpath(*name.split("."))
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def main() -> None:
    """Run the command that the first argument names, or list them all."""
    show_anything()
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(table())
        return
    names = [each for names in COMMANDS.values() for each in names]
    if name not in names:
        meant = nearest(name, names)
        hint = f"did you mean {meant}? " if meant else ""
        with readable_exit():
            raise FedmemError(f"{name} is no command: {hint}python -m fedmem lists them.")
    sys.argv[1:] = arguments
    runpy.run_module(f"fedmem.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
