"""Make content vectors of items, or measure them."""

from __future__ import annotations

import sys

from fedmem.core.errors import FedmemError, readable_exit, readable_file_errors


def main() -> None:
    """The command; exits with 2 for a mistake that the user can mend, 130 for Ctrl-C."""
    kept = "What is made is kept, and the same command goes on."
    with readable_exit(interrupted=kept), readable_file_errors():
        try:
            if sys.argv[1:2] == ["inspect"]:
                from fedmem.features import inspect

                inspect.main(sys.argv[2:])
            else:
                from fedmem.features import build

                build.main(sys.argv[1:])
        except ModuleNotFoundError as error:
            raise FedmemError(
                f"python -m fedmem.features needs {error.name}: pip install 'fedmem[features]'"
            ) from error


if __name__ == "__main__":
    main()
