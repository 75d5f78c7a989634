"""A dependency points one way: from commands and apps to strategies and clients, to the core."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = ("fedmem", "strategies", "clients")
LOWER = ("fedmem.core", "fedmem.features", "fedmem.recommend")
"""Packages that work without Flower; beside commands of theirs, without Hydra too."""


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name; a package goes by its own."""
    found = {}
    for ours in OURS:
        for file in (ROOT / ours).rglob("*.py"):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            name = name if ours == "fedmem" else f"fedmem.{name}"  # see fedmem/__init__.py
            found[name.removesuffix(".__init__")] = file
    return found


def imports(file: Path) -> Iterator[str]:
    """Modules that a file imports, of names as well as of packages."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{each.name}" for each in node.names)


def part_of(module: str) -> str:
    """The package, or the module beside the packages, that a module of ours belongs to."""
    return ".".join(module.split(".")[:2])


def test_no_package_needs_one_that_needs_it() -> None:
    needs: dict[str, set[str]] = {}
    for name, file in modules().items():
        found = {part_of(each) for each in imports(file) if each.startswith("fedmem.")}
        needs.setdefault(part_of(name), set()).update(found - {part_of(name)})
    order = list(TopologicalSorter(needs).static_order())  # a circle raises an error
    assert order.index("fedmem.core") < order.index("fedmem.messaging")
    assert order.index("fedmem.messaging") < order.index("fedmem.strategies")
    assert order.index("fedmem.strategies") < order.index("fedmem.federation")
    assert order.index("fedmem.federation") < order.index("fedmem.simulate")


def test_no_module_needs_one_that_needs_it() -> None:
    known = modules()
    needs: dict[str, set[str]] = {name: set() for name in known}
    for name, file in known.items():
        for each in imports(file):
            found = each if each in known else each.rpartition(".")[0]
            if found in known and found != name and not name.startswith(f"{found}."):
                needs[name].add(found)
    list(TopologicalSorter(needs).static_order())  # a circle raises an error


def test_the_core_knows_nothing_of_flower_or_hydra() -> None:
    files = {name: file for name, file in modules().items() if name.startswith(LOWER)}
    for name, file in files.items():
        outside = {part_of(each) for each in imports(file)} | {
            each.split(".")[0] for each in imports(file)
        }
        assert not outside & {"flwr", "hydra", "fedmem.strategies", "fedmem.clients"}, name


def test_the_root_can_be_taken_in_at_a_glance() -> None:
    names = [each for each in (ROOT / "fedmem").iterdir() if each.name != "__pycache__"]
    assert len(names) <= 22
    assert sum(each.suffix == ".py" for each in names) <= 13
