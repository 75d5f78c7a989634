"""Show what fedmem makes of some data, without training.

    python -m fedmem.data data=ml-1m data.dir=FOLDER

It prints what was read, what each filter drops and why, how long the histories are, and how many
items have content.
"""

from __future__ import annotations

from fedmem.core.commands import command_parser
from fedmem.core.errors import readable_exit


def main() -> None:
    """The command; takes the settings that `python -m fedmem.simulate` takes."""
    parser = command_parser("data", __doc__)
    parser.add_settings()
    asked = parser.parse_with_settings()
    from fedmem.core.data.content import KINDS  # and torch, which --help can do without
    from fedmem.core.data.summary import print_summary
    from fedmem.runs.configuration import compose_settings

    with readable_exit():
        settings = compose_settings(asked.settings).data
        content = any(getattr(settings, file) is not None for file in KINDS.values())
        print_summary(settings, content)


if __name__ == "__main__":
    main()
