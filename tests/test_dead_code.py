"""No public name is there for the tests alone: some code of the project uses it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("fedmem", "strategies", "clients", "benchmarks")
CALLED_BY_LIBRARIES = {"items_with_rows", "forward", "setup_context", "get_parameters", "describe"}
CALLED_BY_LIBRARIES |= {"model_config", "on_train_begin", "after_central_iteration", "intercept"}
"""What torch, Flower, pydantic and pfl look for by name, and what `app.query` registers."""
LISTED_BY = {"check"}
"""Decorators of functions that nobody calls by name: a table of their module is made of them."""


def defined(tree: ast.Module) -> Iterator[str]:
    """Public constants, functions and classes of a module, and the methods of its classes."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for node in [*tree.body, *(member for own in classes for member in own.body)]:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            decorators = (d.func for d in node.decorator_list if isinstance(d, ast.Call))
            if not any(isinstance(d, ast.Name) and d.id in LISTED_BY for d in decorators):
                yield node.name
        elif isinstance(node, ast.Assign):
            targets = [part for target in node.targets for part in ast.walk(target)]
            yield from (part.id for part in targets if isinstance(part, ast.Name))


def used(tree: ast.Module) -> Iterator[str]:
    """Names and attributes that a module reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.id if isinstance(node, ast.Name) else node.attr


def test_every_public_name_is_used() -> None:
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    trees = {file.relative_to(ROOT): ast.parse(file.read_text()) for file in files}
    needed = {name for tree in trees.values() for name in used(tree)} | CALLED_BY_LIBRARIES
    unused = [
        f"{file}: {name}"
        for file, tree in trees.items()
        for name in defined(tree)
        if not name.startswith("_") and name not in needed
    ]
    assert not unused
