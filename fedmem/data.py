"""`python -m fedmem.data SETTING=VALUE …`: what fedmem makes of data, without training."""

from __future__ import annotations

import sys

from fedmem.core.data.content import KINDS
from fedmem.core.data.summary import print_summary
from fedmem.core.errors import readable_exit
from fedmem.runs.configuration import compose_settings


def main() -> None:
    """The command; takes the settings that `python -m fedmem.simulate` takes."""
    with readable_exit():
        settings = compose_settings(sys.argv[1:]).data
        content = any(getattr(settings, file) is not None for file in KINDS.values())
        print_summary(settings, content)


if __name__ == "__main__":
    main()
