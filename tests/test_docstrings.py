"""What docstrings name exists: modules, classes, members, settings and files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.names import (
    FOLDERS,
    ROOT,
    missing_dotted,
    missing_name,
    missing_path,
    missing_setting,
    modules,
)


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(first line, text) of every docstring, those below a field or a constant too."""
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.lineno, value.value


def missing(text: str, here: Path) -> Iterator[tuple[int, str]]:
    """(line of the text, name) of the names in backticks that do not exist."""
    for found in re.finditer(r"(?<!`)`([^`\n]+)`(?!`)", text):
        name = found[1]
        if (
            missing_path(name)
            or missing_setting(name)
            or missing_dotted(name, here)
            or missing_name(name)
        ):
            yield text[: found.start()].count("\n"), name


def test_names_in_docstrings_exist() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{first + line}: {name}"
        for file, tree in modules()
        for first, text in docstrings(tree)
        for line, name in missing(text, file)
    ]
    assert found == []


def test_files_that_sources_name_exist() -> None:
    sources = [file for file, _ in modules()]
    sources += [
        file for kind in ("conf/**/*.yaml", "*.toml", "Makefile") for file in ROOT.glob(kind)
    ]
    path = re.compile(rf"\b(?:{'|'.join(FOLDERS)})/[\w./-]+\.(?:py|md|yaml|ipynb)\b")
    found = [
        f"{source.relative_to(ROOT)}: {name}"
        for source in sources
        for name in path.findall(source.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    ]
    assert found == []


@pytest.mark.parametrize(
    "name",
    [
        "strategies/pace.py",
        "strategies.RoundRecord",
        "fedmem.core.stages.Stage.whole",
        "MemoryBank.forget_all",
        "memory.long_capacity",
        "NoSuchThing",
        "torch.no_such_thing",
    ],
)
def test_a_name_that_does_not_exist_is_found(name: str) -> None:
    text = f"A line.\n\nSee `{name}`."
    assert list(missing(text, ROOT / "fedmem/core/node.py")) == [(2, name)]


@pytest.mark.parametrize(
    "name",
    [
        "strategies/aggregation.py",
        "fedmem.core.stages.Stage.in_scope",
        "MemoryBank.pack",
        "node.load",
        "memory.top_k",
        "torch.optim.SGD",
        "results.json",
        "ValueError",
    ],
)
def test_a_name_that_exists_is_not(name: str) -> None:
    assert not list(missing(f"See `{name}`.", ROOT / "fedmem/core/node.py"))
