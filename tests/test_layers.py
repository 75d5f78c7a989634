"""A dependency points one way: from commands and apps to strategies and clients, to the core."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("fedmem", "strategies", "clients")
CORE = ("model", "memory", "training", "evaluation", "data", "machine")


def imports(file: Path) -> Iterator[str]:
    """Modules that a file imports, of names as well as of packages."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{each.name}" for each in node.names)


def part_of(module: str) -> str:
    """The package, or the module beside the packages, that a module of ours belongs to."""
    names = module.split(".")
    return ".".join(names[:2]) if names[0] == "fedmem" else names[0]


def test_no_package_needs_one_that_needs_it() -> None:
    needs: dict[str, set[str]] = {}
    for ours in OURS:
        for file in (ROOT / ours).rglob("*.py"):
            part = part_of(".".join(file.relative_to(ROOT).with_suffix("").parts))
            found = {part_of(name) for name in imports(file) if name.split(".")[0] in OURS}
            needs.setdefault(part, set()).update(found - {part})
    order = list(TopologicalSorter(needs).static_order())  # a circle raises an error
    assert order.index("fedmem.messaging") < order.index("strategies")
    assert order.index("strategies") < order.index("fedmem.federation")
    assert order.index("fedmem.federation") < order.index("fedmem.simulate")


@pytest.mark.parametrize("package", CORE)
def test_the_core_knows_nothing_of_flower_or_hydra(package: str) -> None:
    files = [f for f in (ROOT / "fedmem" / package).rglob("*.py") if f.name != "__main__.py"]
    assert files
    outside = {name.split(".")[0] for file in files for name in imports(file)}
    assert not outside & {"flwr", "hydra", "strategies", "clients"}
