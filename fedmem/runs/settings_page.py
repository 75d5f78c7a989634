"""`python -m fedmem.runs.settings_page`: all settings as a page, made from the code and `conf/`."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import sys
from collections.abc import Iterator
from importlib import resources
from typing import Any

from fedmem.core.files.markdown import markdown_table
from fedmem.core.settings import Settings, StageSettings, flattened
from fedmem.core.settings.schema import TYPES, Section, dotted, kinds, parts
from fedmem.core.stages import ALL_STAGES
from fedmem.runs.configuration import CONFIG_MODULE, choices, defaults

HEAD = """\
# Settings

<!-- Made from the code: python -m fedmem.runs.settings_page > docs/settings.md -->

Every command that runs something takes settings as `key=value`, and groups of them by name, as
`strategy=fedavg`. The defaults are those of `python -m fedmem.simulate`, which stand in `conf/`.

## Groups
"""
OF_STAGES = """\
`federation.rounds` and `loss` set the
numbers of every stage of the run at once; `stage.finetune_moe.rounds=50` sets that of one.
"""
COLUMNS = ("allowed", "meaning")


def page() -> str:
    """The whole page."""
    groups = [
        (f"`{group}={name}`", purpose(group, name))
        for group, names in choices().items()
        for name in names
    ]
    text = [HEAD, markdown_table(("choice", "for"), groups)]
    values = flattened(defaults())
    for key, section in _sections(Settings):
        rows = [
            (f"`{dotted(key, name)}`", _shown(values[dotted(key, name)]), *about)
            for name, about in _settings(section)
        ]
        title = f"`{key}`" if key else "The run"
        text += [f"## {title}\n\n{inspect.getdoc(section)}\n"]
        text += [markdown_table(("setting", "default", *COLUMNS), rows)]
        if not key:
            text += [f"## `stage`\n\n{inspect.getdoc(StageSettings)} {OF_STAGES}", _stages()]
    return "\n".join(text)


def _stages() -> str:
    """The table of the stages' numbers, a column for each stage."""
    values = {name: flattened(defaults([f"stage={name}"])) for name in ALL_STAGES}
    rows = [
        (
            f"`stage.<stage>.{key}`",
            *(_shown(own[f"stage.{stage}.{key}"]) for stage, own in values.items()),
            *about,
        )
        for prefix, section in _sections(StageSettings)
        for name, about in _settings(section)
        for key in [dotted(prefix, name)]
    ]
    return markdown_table(("setting", *ALL_STAGES, *COLUMNS), rows)


def _sections(section: type[Section], key: str = "") -> Iterator[tuple[str, type[Section]]]:
    """A section and those in it, by their dotted keys."""
    yield key, section
    for name, hint in section.hints().items():
        if inspect.isclass(hint) and issubclass(hint, Section):
            yield from _sections(hint, dotted(key, name))


def _settings(section: type[Section]) -> Iterator[tuple[str, tuple[str, str]]]:
    """The single settings of a section: a cell for each of `COLUMNS`, by name."""
    told = meanings(section)
    for name, hint in section.hints().items():
        if parts(hint) is None:
            yield name, (allowed(hint), told[name])


def meanings(section: type[Section]) -> dict[str, str]:
    """What each attribute of a section means, from the docstring below it."""
    found: dict[str, str] = {}
    for base in section.__mro__:
        if issubclass(base, Section):
            (definition,) = ast.parse(inspect.getsource(base)).body
            assert isinstance(definition, ast.ClassDef)
            for one, below in itertools.pairwise(definition.body):
                match one, below:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str(text))),
                    ):
                        found[name] = " ".join(text.split())
    return found


def allowed(hint: Any) -> str:
    """The values that a setting may have."""
    words = []
    for kind, within in kinds(hint):
        number = kind in (int, float)
        of = f"{TYPES[kind]}, {within.words}" if number and within else TYPES[kind]
        words.append(of if number or within is None else within.words)
    return "; or ".join(words)


def purpose(group: str, name: str) -> str:
    """What a file of `conf/` is for: its first lines, below a header where Hydra wants one."""
    text = resources.files(CONFIG_MODULE).joinpath(group, f"{name}.yaml").read_text("utf-8")
    comment = itertools.takewhile(lambda line: line.startswith("# "), text.splitlines())
    return " ".join(line.removeprefix("# ") for line in comment if not line.startswith("# @"))


def _shown(value: object) -> str:
    """A default as an override would have it."""
    if isinstance(value, list):
        return f"`[{','.join(value)}]`"
    plain = value is None or isinstance(value, bool)
    return f"`{json.dumps(value) if plain else value}`"


def main() -> None:
    """The command."""
    sys.stdout.write(page())


if __name__ == "__main__":
    main()
