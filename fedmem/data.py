"""Show what fedmem makes of some data, without training.

    python -m fedmem.data data=ml-1m data.dir=FOLDER

It prints what was read, what each filter drops and why, how long the histories are, how many items
have content, and what looks wrong. Data that a run would refuse end it with the reason and exit
code 2.
"""

from __future__ import annotations

from fedmem.core.commands import command_parser
from fedmem.core.errors import MISTAKE_EXIT_CODE, FedmemError, readable_exit


def main() -> None:
    """The command; takes the settings that `python -m fedmem.simulate` takes."""
    parser = command_parser("data", __doc__)
    parser.add_settings()
    asked = parser.parse_with_settings()
    from rich.console import Console

    from fedmem.core.console import say
    from fedmem.core.data.content import KINDS  # and torch, which --help can do without
    from fedmem.core.data.summary import print_summary
    from fedmem.doctor import data, features
    from fedmem.doctor.case import Case
    from fedmem.doctor.checks import examine, quick_checks
    from fedmem.doctor.finding import Level, print_findings
    from fedmem.runs.configuration import compose_settings

    with readable_exit():
        settings = compose_settings(asked.settings)
        content = any(getattr(settings.data, file) is not None for file in KINDS.values())
        print_summary(settings.data, content)
        if not content:
            say("no item features: of the stages, stage=pretrain_sasrec can run")
        about = (data, features) if content else (data,)
        found = [f for f in examine(Case(settings), quick_checks(*about)) if f.level > Level.OK]
        of_settings = data.OF_SETTINGS
        for finding in found:
            if finding.level is Level.PROBLEM and finding.check not in of_settings:
                raise FedmemError(f"{finding.figure}\n{finding.advice}".strip())
        if print_findings(found, Console()) is Level.PROBLEM:  # of the settings: a run refuses it
            raise SystemExit(MISTAKE_EXIT_CODE)


if __name__ == "__main__":
    main()
