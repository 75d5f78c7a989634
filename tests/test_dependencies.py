"""What `pip install fedmem` asks for is all that is imported, but for what is behind an extra."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = ("fedmem", "strategies", "clients")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WITH_EXTRAS = (
    "fedmem/features",
    "fedmem/core/privacy/accounting.py",
    "fedmem/runs/tracking/mlflow.py",
)
"""Imported only by those who have installed an extra."""


def distribution(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return found[0].lower().replace("_", "-")


def imported(file: Path) -> Iterator[str]:
    """Top-level packages that are not the standard library's nor ours."""
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for top in {name.split(".")[0] for name in names}:
            if top not in sys.stdlib_module_names and top not in OURS:
                yield top


def test_every_import_is_of_a_dependency() -> None:
    provided = {distribution(each) for each in PROJECT["dependencies"]}
    provided_by = metadata.packages_distributions()
    for ours in OURS:
        for file in (ROOT / ours).rglob("*.py"):
            place = file.relative_to(ROOT).as_posix()
            if place.startswith(WITH_EXTRAS):
                continue
            for name in imported(file):
                owners = {distribution(each) for each in provided_by.get(name, [name])}
                assert owners & provided, f"{place} imports {name}"


def test_every_package_is_installed_and_within_fedmem() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    within = {file.parent for file in (ROOT / "fedmem").rglob("__init__.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in within}
    # Folders of files alone are packages to setuptools, which warns of each that is not named.
    names |= {f"fedmem.conf.{folder.parent.name}" for folder in (ROOT / "conf").glob("*/*.yaml")}
    names |= {"fedmem.features.assets", "fedmem.serve.page"}
    assert set(setuptools["packages"]) == names | set(setuptools["package-dir"])
    assert setuptools["package-dir"] == {
        f"fedmem.{folder}": folder for folder in ("clients", "conf", "strategies")
    }


def test_ray_is_the_one_that_flower_asks_for() -> None:
    (ours,) = [each for each in PROJECT["dependencies"] if distribution(each) == "ray"]
    theirs = [each for each in metadata.requires("flwr") or () if distribution(each) == "ray"]
    assert {each.partition(";")[0].strip() for each in theirs} == {ours}
