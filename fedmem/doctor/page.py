"""Print docs/doctor.md, the doctor's checks as a page.

    python -m fedmem.doctor.page > docs/doctor.md

What a check looks at, when it warns and when it finds a problem is what its docstring says.
"""

from __future__ import annotations

import inspect
import re
import sys

from fedmem.core.commands import command_parser
from fedmem.core.files.markdown import markdown_table
from fedmem.core.stages import CONTROLS, STAGES
from fedmem.doctor.finding import ALL, Check, Level

HEAD = """\
# The doctor

<!-- Made from the code: python -m fedmem.doctor.page > docs/doctor.md -->

```
python -m fedmem.doctor                                  # before a run with the defaults
python -m fedmem.doctor stage=align_projectors data=ml-1m data.dir=FOLDER
python -m fedmem.doctor --run runs/ml-100k/TIME          # after it
```

It takes the settings of `fedmem.simulate`, changes nothing, and prints a line a check: `ok`,
`warning` or `problem`, the figure, and what to do. Its exit code is that of the worst line: """
ABOUT_QUICK = """\
Before every run `fedmem.simulate` does the quick ones by itself. It prints what they warn of, and
does not start if there is a problem.
"""
COLUMNS = ("check", "stages", "quick", "looks at", "warning", "problem")
NUMBERS = {
    **{name: str(place) for place, name in enumerate(STAGES, start=1)},
    **{name: "controls" if stage.requires else name for name, stage in CONTROLS.items()},
}


def page() -> str:
    """The whole page."""
    from fedmem.doctor.checks import CHECKS, SUBJECTS  # torch, which --help needs not

    codes = ", ".join(f"{int(level)} {level.name.lower()}" for level in Level)
    parts = [f"{HEAD}{codes}.\n", ABOUT_QUICK]
    for subject in SUBJECTS:
        title = subject.__name__.rpartition(".")[2].capitalize()
        rows = [_row(one) for one in CHECKS if one.look.__module__ == subject.__name__]
        parts += [f"## {title}\n\n{inspect.getdoc(subject)}\n", markdown_table(COLUMNS, rows)]
    return "\n".join(parts)


def _row(one: Check) -> tuple[str, ...]:
    numbers = dict.fromkeys(NUMBERS[name] for name in one.stages)
    stages = "all" if one.stages == ALL else ", ".join(numbers)
    return (one.name, stages, "yes" if one.quick else "", *parts_of(one))


def parts_of(one: Check) -> tuple[str, str, str]:
    """What a check looks at, when it warns, and when it finds a problem; from its docstring."""
    text = " ".join((inspect.getdoc(one.look) or "").split())
    parts = re.split(r" ?(Warning|Problem): ", text)
    named = dict(zip(parts[1::2], parts[2::2], strict=True))
    return parts[0], named.get("Warning", ""), named.get("Problem", "")


def main() -> None:
    """The command."""
    command_parser("doctor.page", __doc__).parse_args()
    sys.stdout.write(page())


if __name__ == "__main__":
    main()
