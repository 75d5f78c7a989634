"""`python -m fedmem.features`: make content vectors, or look at them with `inspect`."""

from __future__ import annotations

import sys

from fedmem.errors import FedmemError, readable_exit


def main() -> None:
    """The command; exits with 2 for a mistake that the user can mend, 130 for Ctrl-C."""
    with readable_exit(interrupted="What is made is kept, and the same command goes on."):
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
        except OSError as error:
            raise FedmemError(
                f"{error.filename or 'A file'}: {error.strerror or error}."
            ) from error


if __name__ == "__main__":
    main()
