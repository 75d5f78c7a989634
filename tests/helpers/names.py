"""What exists in this repository: files, settings, and the names that its modules define."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
from functools import cache
from pathlib import Path

from fedmem.core.settings import Settings
from fedmem.core.settings.schema import leaves

ROOT = Path(__file__).parents[2]
PACKAGES = ("fedmem", "strategies", "clients", "benchmarks")
FOLDERS = (*PACKAGES, "conf", "docs", "notebooks", "tests")
"""What git tracks at the root; other paths are made by runs or belong to a user."""
SOURCES = (".py", ".md", ".yaml", ".ipynb", ".j2")
"""Endings of files that are ours, wherever they are named without their folder."""
DATA = re.compile(
    "csv|data|dat|db|gz|h5|html|inter|item|jsonl?|log|np[yz]|parquet|pt|safetensors|service|toml"
    "|tsv|txt|crt|key|pub"
)
"""Endings of files that are a user's or a run's."""


@cache
def modules() -> tuple[tuple[Path, ast.Module], ...]:
    """Every module of ours with its syntax tree."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    return tuple((file, ast.parse(file.read_text(encoding="utf-8"))) for file in files)


def tree_of(file: Path) -> ast.Module:
    """The syntax tree of one of them."""
    return dict(modules())[file]


@cache
def file_names() -> frozenset[str]:
    """Names of all files of ours, without their folders."""
    below = {file.name for folder in FOLDERS for file in (ROOT / folder).rglob("*.*")}
    return frozenset(below | {file.name for file in ROOT.iterdir()})


def is_file_name(text: str) -> bool:
    """Whether a text ends as a file of ours, a user's or a run's does."""
    return text.endswith(SOURCES) or DATA.fullmatch(text.rpartition(".")[2]) is not None


def missing_path(text: str) -> bool:
    """Whether a text names a file or folder of ours that is not there."""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", text):
        return False
    first, *others = text.rstrip("/").split("/")
    if not others:
        return text.endswith(SOURCES) and text not in file_names()
    made = DATA.fullmatch(text.rpartition(".")[2])
    return first in FOLDERS and not made and not (ROOT / text).exists()


@cache
def settings() -> frozenset[str]:
    """The dotted keys of all settings."""
    return frozenset(leaves(Settings))


def missing_setting(text: str) -> bool:
    """Whether a text names a setting, or a group of them, that is not there.

    `<name>` and `*` stand for any name, and `=value` may follow.
    """
    key = text.partition("=")[0]
    found = re.fullmatch(r"([a-z_]+)((?:\.(?:[a-z_0-9]+|<\w+>|\*))+)", key)
    if found is None or not any(name.startswith(f"{found[1]}.") for name in settings()):
        return False
    if is_file_name(key):
        return False
    pattern = re.sub(r"<\w+>|\*", r"[\\w.]+", re.escape(key).replace(r"\*", "*"))
    return not any(re.match(rf"{pattern}(\.|$)", name) for name in settings())


@cache
def defined() -> dict[str, set[str]]:
    """Every class of ours by its name, with its members; other names have none."""
    found: dict[str, set[str]] = {}
    for _, tree in modules():
        for node in ast.walk(tree):
            for name in _names_of(node):
                found.setdefault(name, set())
            if isinstance(node, ast.ClassDef):
                found[node.name] |= _members(node)
    for name in list(found):  # what a class has from those above it
        found[name] |= set().union(*(found.get(base, set()) for base in _bases().get(name, ())))
    return found


@cache
def _bases() -> dict[str, set[str]]:
    classes = [n for _, tree in modules() for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    return {n.name: {b.id for b in n.bases if isinstance(b, ast.Name)} for n in classes}


def _names_of(node: ast.AST) -> list[str]:
    """The names that a node defines or imports."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(each.asname or each.name).split(".")[0] for each in node.names]
    if isinstance(node, ast.arg):
        return [node.arg]
    return []


def _members(owner: ast.ClassDef | ast.Module) -> set[str]:
    """Methods, fields, and attributes that a class gives itself; what a module defines."""
    found = {name for node in owner.body for name in _names_of(node)}
    for node in ast.walk(owner):
        own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        if own and isinstance(node.ctx, ast.Store) and node.value.id == "self":
            found.add(node.attr)
        found.update(_names_of(node) if isinstance(node, ast.Name) else [])
    return found


def _module_file(parts: list[str]) -> Path | None:
    path = ROOT.joinpath(*parts)
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.exists()), path if path.is_dir() else None)


def missing_dotted(text: str, here: Path) -> bool:
    """Whether a dotted name in a docstring of the module `here` names nothing.

    It may begin at a package of ours, a module of ours by its last name, a class of ours or an
    object that is called as its class, or what Python can import.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+(\(\))?", text):
        return False
    parts = text.removesuffix("()").split(".")
    if is_file_name(text) or parts[0] == "hydra":
        return False
    if parts[0] in PACKAGES:
        return not _resolves(parts)
    if any(key.startswith(f"{parts[0]}.") for key in settings()):
        return missing_setting(text)
    if parts[0] in defined() and parts[0][0].isupper():
        return parts[1] not in defined()[parts[0]] and not _foreign(parts, here)
    of_class = "".join(word.capitalize() for word in parts[0].split("_"))
    if parts[1] in defined().get(of_class, ()):
        return False
    alike = [tree for file, tree in modules() if file.stem == parts[0]]
    if any(parts[1] in _members(tree) for tree in alike):
        return False
    return not _foreign(parts, here)


def _resolves(parts: list[str]) -> bool:
    """Whether a name from a package of ours on leads somewhere."""
    if parts[0] == "fedmem" and parts[1] in FOLDERS:  # see fedmem/__init__.py
        parts = parts[1:]
    for split in range(len(parts), 0, -1):
        file = _module_file(parts[:split])
        if file is None:
            continue
        rest = parts[split:]
        if not rest or file.is_dir():
            return not rest
        members = _members(tree_of(file))
        return rest[0] in members and (len(rest) == 1 or rest[1] in defined().get(rest[0], ()))
    return False


def _foreign(parts: list[str], here: Path) -> bool:
    """Whether the name is one of another package, from the imports of `here` or by itself."""
    imported = dict[str, str]()
    for node in ast.walk(tree_of(here)):
        if isinstance(node, ast.Import):
            imported |= {each.asname or each.name: each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
            imported |= full
    if hasattr(builtins, parts[0]):
        return hasattr(getattr(builtins, parts[0]), parts[1])
    words = ".".join([imported.get(parts[0], parts[0]), *parts[1:]]).split(".")
    for split in range(len(words), 0, -1):
        try:
            found: object = importlib.import_module(".".join(words[:split]))
        except ImportError:
            continue
        for word in words[split:]:
            if not hasattr(found, word):
                return False
            found = getattr(found, word)
        return True
    return False


def missing_name(text: str) -> bool:
    """Whether a text is written as a class or a constant and no module of ours has that name."""
    if not re.fullmatch(r"[A-Z]+[a-z0-9]\w*|[A-Z][A-Z0-9]*_[A-Z0-9_]+", text):
        return False
    return text not in defined() and not hasattr(builtins, text)
