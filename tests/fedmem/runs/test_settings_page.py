"""docs/settings.md is what the code makes; every setting and file of `conf/` is explained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Generic, TypeVar

import pytest

from fedmem.core.settings import Settings, StageSettings
from fedmem.core.settings.ranges import at_least, one_of
from fedmem.core.settings.schema import Auto, Section, leaves, parts
from fedmem.runs.settings_page import allowed, meanings, page

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "settings.md"
HYDRAS = "# @package _global_"
"""A header that Hydra reads in the first lines of a file alone."""
T = TypeVar("T")


class Above(Section, Generic[T]):
    one: T
    """From above."""


class Below(Above[int]):
    two: str
    """Of two
    lines."""
    none: int


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "python -m fedmem.runs.settings_page > docs/settings.md"


def test_the_page_has_every_setting() -> None:
    text = PAGE.read_text()
    for key in leaves(Settings):
        if not key.startswith("stage."):
            assert f"| `{key}` |" in text
    for key in leaves(StageSettings):
        assert f"| `stage.<stage>.{key}` |" in text


def test_every_setting_has_a_meaning() -> None:
    def sections(hint: type[Section]) -> list[type[Section]]:
        inside = [each for each in hint.hints().values() if isinstance(each, type)]
        return [hint, *(s for each in inside if issubclass(each, Section) for s in sections(each))]

    for section in (*sections(Settings), *sections(StageSettings)):
        single = {name for name, hint in section.hints().items() if parts(hint) is None}
        assert single <= set(meanings(section)), section


def test_a_meaning_is_what_stands_below_an_attribute() -> None:
    assert meanings(Below) == {"one": "From above.", "two": "Of two lines."}


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "a whole number"),
        (str | None, "text; or null"),
        (Annotated[int, at_least(1)] | Auto, "a whole number, at least 1; or auto"),
        (Annotated[str, one_of("a", "b")], "one of a, b"),
    ],
)
def test_what_is_allowed_in_words(hint: object, words: str) -> None:
    assert allowed(hint) == words


@pytest.mark.parametrize("file", sorted(ROOT.glob("conf/**/*.yaml")), ids=lambda path: path.stem)
def test_a_file_of_the_configuration_begins_with_what_it_is_for(file: Path) -> None:
    first, second, *_ = file.read_text().splitlines()
    line = second if first == HYDRAS else first
    assert line.startswith("# ")
    assert len(line.split()) > 3
