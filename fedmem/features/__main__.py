"""Make content vectors of items, or measure them."""

from __future__ import annotations

import sys
from importlib import import_module

from fedmem.core.errors import FedmemError, readable_exit, readable_file_errors
from fedmem.features.options import build_options, inspect_options


def main() -> None:
    """The command; exits with 2 for a mistake that the user can mend, 130 for Ctrl-C."""
    kept = "What is made is kept, and the same command goes on."
    with readable_exit(interrupted=kept), readable_file_errors():
        try:
            if sys.argv[1:2] == ["inspect"]:
                name, asked = "inspect", inspect_options().parse_intermixed_args(sys.argv[2:])
            else:
                name, asked = "build", build_options().parse_args(sys.argv[1:])
            import_module(f"fedmem.features.{name}").make(asked)
        except ModuleNotFoundError as error:
            raise FedmemError(
                f"python -m fedmem.features needs {error.name}: pip install 'fedmem[features]'"
            ) from error


if __name__ == "__main__":
    main()
