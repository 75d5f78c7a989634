"""Print docs/settings.md, all settings as a page.

    python -m fedmem.runs.settings_page > docs/settings.md

It is made from the settings' classes, what stands beside them, and the defaults in `conf/`.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from fedmem.core.commands import command_parser
from fedmem.core.files.markdown import markdown_table
from fedmem.core.settings import Settings, StageSettings, flattened
from fedmem.core.settings.schema import TYPES, Section, dotted, kinds, parts
from fedmem.core.stages import ALL_STAGES
from fedmem.runs.configuration import defaults

HEAD = """\
# Settings

<!-- Made from the code: python -m fedmem.runs.settings_page > docs/settings.md -->

Every command that runs something takes settings as `key=value`, and groups of them by the name of a
file in `conf/`, as `strategy=fedavg` or `stage=[align_projectors,finetune_moe]`. The defaults are
those of `python -m fedmem.simulate`.
"""
ANY = "stage.<stage>"
OF_STAGES = """\
`federation.rounds` and `loss` set the
numbers of every stage of the run at once; `stage.finetune_moe.rounds=50` sets that of one.
"""


def page() -> str:
    """The whole page."""
    values, text = flattened(defaults()), [HEAD]
    for key, section in _sections(Settings):
        text.append(f"## {f'`{key}`' if key else 'The run'}\n\n{inspect.getdoc(section)}\n")
        text.append(_table({"default": values}, (key, section)))
        if not key:
            text.append(f"## `stage`\n\n{inspect.getdoc(StageSettings)} {OF_STAGES}")
            text.append(_table(_of_stages(), *_sections(StageSettings, ANY)))
    return "\n".join(text)


def _table(columns: Mapping[str, Mapping[str, Any]], *sections: tuple[str, type[Section]]) -> str:
    """A row for each single setting of these sections; columns have values by dotted key."""
    rows = []
    for prefix, section in sections:
        for name, hint in section.hints().items():
            if parts(hint) is None:
                key = dotted(prefix, name)
                values = (_shown(own[key]) for own in columns.values())
                rows.append((f"`{key}`", *values, allowed(hint), meanings(section)[name]))
    return markdown_table(("setting", *columns, "allowed", "meaning"), rows)


def _of_stages() -> dict[str, dict[str, Any]]:
    """The numbers of each stage, by keys that name none."""
    return {
        stage: {
            key.replace(f"stage.{stage}", ANY): value
            for key, value in flattened(defaults([f"stage={stage}"])).items()
        }
        for stage in ALL_STAGES
    }


def _sections(section: type[Section], key: str = "") -> Iterator[tuple[str, type[Section]]]:
    """A section and those in it, by their dotted keys."""
    yield key, section
    for name, hint in section.hints().items():
        if inspect.isclass(hint) and issubclass(hint, Section):
            yield from _sections(hint, dotted(key, name))


def meanings(section: type[Section]) -> dict[str, str]:
    """What each attribute of a section means, from the docstring below it."""
    bases = (base for base in section.__mro__ if issubclass(base, Section))
    source = "".join(inspect.getsource(base) for base in bases)
    found = re.findall(r'^ {4}(\w+): [^\n]+\n {4}"""(.+?)"""', source, re.DOTALL | re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def allowed(hint: Any) -> str:
    """The values that a setting may have."""
    words = []
    for kind, within in kinds(hint):
        names = [TYPES[kind]] if within is None or kind in (int, float) else []
        words.append(", ".join([*names, within.words] if within else names))
    return "; or ".join(words)


def _shown(value: object) -> str:
    """A default as an override would have it."""
    if isinstance(value, list):
        return f"`[{','.join(value)}]`"
    plain = value is None or isinstance(value, bool)
    return f"`{json.dumps(value) if plain else value}`"


def main() -> None:
    """The command."""
    command_parser("runs.settings_page", __doc__).parse_args()
    sys.stdout.write(page())


if __name__ == "__main__":
    main()
