"""README and docs: commands, settings, files, links and copied figures are real."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from fedmem.runs.configuration import choices
from tests.helpers.names import (
    ROOT,
    missing_dotted,
    missing_name,
    missing_path,
    missing_setting,
    settings,
)

README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
FIGURES = r"\.\d{3} ± \.\d{3}"
ANY = ("…", "NAME", "FILE", "FOLDER", "DIR", "$")
"""What a reader replaces by something of his own."""


def shown(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(text: str) -> Iterator[str]:
    """Code blocks of a page, fenced or indented, and code within a line; long lines joined."""
    fenced = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
    for found in (*fenced.findall(text), *re.findall(r"(?:^ {4}.+\n)+", text, re.MULTILINE)):
        yield re.sub(r"\\\n\s*", "", found)
    for quoted in re.findall(r"(?<!`)`([^`]+)`(?!`)", fenced.sub("", text)):
        yield " ".join(quoted.split())


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command of ours, without what comes before and behind it."""
    ours = r"python -m fedmem[.\w]*|python benchmarks/\w+\.py|make|fedmem"
    begins = re.compile(rf"(?:^|(?<=\s)|(?<=bin/))({ours})(?=\s|$)")
    for block in blocks(text):
        for line in block.splitlines():
            found = begins.search(line)
            before = line[: found.start()].split() if found else []
            if found and all("=" in word or word.startswith((".", "/")) for word in before):
                yield shlex.split(re.split(r" && | \| | > |#", line[found.start() :])[0])


def takes_settings(module: str) -> bool:
    """Whether a command is given settings as `key=value`."""
    return module not in ("fedmem.superlink", "fedmem.supernode", "fedmem.certificates")


@cache
def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def faults(words: list[str]) -> Iterator[str]:
    """What is not real in a command."""
    program, *rest = words
    if program == "make":
        yield from (f"no target {word}" for word in rest if word not in targets())
        return
    if program == "fedmem":
        rest = ["-m", "fedmem", *rest] if not rest else ["-m", f"fedmem.{rest[0]}", *rest[1:]]
    if rest[0] == "-m":
        module, arguments = rest[1], rest[2:]
        found = importlib.util.find_spec(module)
        if found is None:
            yield f"no module {module}"
            return
        places = found.submodule_search_locations
        if places and not Path(places[0], "__main__.py").exists():
            yield f"{module} is no command"
        source = Path(places[0]) if places else Path(found.origin or "")
    else:
        module, source, arguments = rest[0], ROOT / rest[0], rest[1:]
        if not source.exists():
            yield f"no file {module}"
            return
    if takes_settings(module):
        yield from faults_of_settings(arguments)
        yield from faults_of_flags(arguments, source)


def faults_of_settings(arguments: list[str]) -> Iterator[str]:
    groups = choices()
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key.startswith(("-", "hydra.", "hydra/", "$")):
            continue
        if key in groups:
            chosen = value.strip("[]").split(",")
            wrong = [c for c in chosen if c not in groups[key] and not c.startswith(ANY)]
            yield from (f"no {key}={each}" for each in wrong)
        elif key not in settings():
            yield f"no setting {key}"


def faults_of_flags(arguments: list[str], source: Path) -> Iterator[str]:
    files = sorted(source.rglob("*.py")) if source.is_dir() else [source]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    if source.parent.name == "benchmarks":
        text += (source.parent / "common.py").read_text(encoding="utf-8")
    for argument in arguments:
        flag = argument.partition("=")[0]
        stem = flag.rpartition("-")[0]  # as in f"--new-{kind}"
        if flag.startswith("--") and f'"{flag}"' not in text and f'f"{stem}-{{' not in text:
            yield f"no flag {flag}"


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page: Path) -> Iterator[str]:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        file = (page.parent / path) if path else page
        if not file.exists() or (anchor and anchor not in headings(file)):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_commands_are_real(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [(words, fault) for words in commands(text) for fault in faults(words)] == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("make demmo", "no target demmo"),
        ("python -m fedmem.simulat stage=all", "no module fedmem.simulat"),
        ("python -m fedmem.core", "fedmem.core is no command"),
        ("python benchmarks/none.py", "no file benchmarks/none.py"),
        ("X=1 python -m fedmem.simulate stage=first  # one", "no stage=first"),
        ("fedmem simulate federation.round=1", "no setting federation.round"),
        (".venv/bin/python -m fedmem.report runs --agains full", "no flag --agains"),
    ],
)
def test_a_command_that_is_not_real_is_found(line: str, fault: str) -> None:
    found = [fault for words in commands(f"```\n{line}\n```\n") for fault in faults(words)]
    assert found == [fault]


def test_commands_are_found_in_every_form_of_writing() -> None:
    fenced = "```\npython -m fedmem.data \\\n    data=custom\n```\n"
    text = f"`make test`\n{fenced}\n    flwr run\n    make lint\n"
    assert list(commands(text)) == [
        ["python", "-m", "fedmem.data", "data=custom"],
        ["make", "lint"],
        ["make", "test"],
    ]


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_settings_names_and_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    quoted = {" ".join(q.split()) for q in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)}
    missing = [
        name
        for name in sorted(quoted)
        if missing_path(name) or missing_setting(name) or is_missing_name_of_code(name)
    ]
    assert missing == []


def is_missing_name_of_code(name: str) -> bool:
    here, ours = (
        ROOT / "fedmem" / "simulate.py",
        name.startswith(("fedmem.", "strategies.", "clients.")),
    )
    return missing_dotted(name, here) if ours else not name.isupper() and missing_name(name)


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_imports_in_examples_are_real(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                assert [each.name for each in node.names if not hasattr(module, each.name)] == []


def test_the_experiment_that_is_shown_has_real_settings() -> None:
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    arms = yaml.safe_load(block)["experiment"]["arms"]
    overrides = [each for arm in arms.values() for each in arm.get("overrides", [])]
    assert len(overrides) >= 3
    assert list(faults_of_settings(overrides)) == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_lead_somewhere(page: Path) -> None:
    assert list(dead_links(page)) == []


def test_dead_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A title, here\n[a](#a-title-here) [b](page.md#b) [c](c.md) [d](https://x.org)\n"
    )
    assert list(dead_links(page)) == ["page.md#b", "c.md"]


def test_the_page_on_the_layout_names_every_package_and_command() -> None:
    text = (ROOT / "docs" / "layout.md").read_text(encoding="utf-8")
    rooms = [*(ROOT / "fedmem").iterdir(), *(ROOT / "fedmem" / "core").iterdir()]
    packages = [f"{room.relative_to(ROOT)}/" for room in rooms if (room / "__init__.py").exists()]
    commands = [f"fedmem/{file.name}" for file in (ROOT / "fedmem").glob("[a-z]*.py")]
    assert [name for name in (*packages, *commands) if name not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_page_is_reached_from_the_readme(page: Path) -> None:
    reached, left = {README}, [README]
    while left:
        at = left.pop()
        for target in re.findall(r"\]\(([^)\s#]+\.md)", at.read_text(encoding="utf-8")):
            file = (at.parent / target).resolve()
            if file in PAGES and file not in reached:
                reached.add(file)
                left.append(file)
    assert page in reached


@pytest.mark.parametrize(("page", "most"), [(README, 120), (RESULTS, 80)])
def test_pages_for_a_first_look_are_short(page: Path, most: int) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) <= most


def rows_of_figures(text: str) -> list[tuple[str, ...]]:
    """The four figures of each row of a table that has four or more."""
    rows = [re.findall(FIGURES, line) for line in text.splitlines() if line.startswith("|")]
    return [tuple(row[:4]) for row in rows if len(row) >= 4]


def test_figures_of_the_short_pages_are_those_of_the_experiments() -> None:
    parts = re.split(r"\]\((results/[\w-]+\.md)\)", RESULTS.read_text(encoding="utf-8"))
    checked = 0
    for path, text in zip(parts[1::2], parts[2::2], strict=True):
        known = rows_of_figures((RESULTS.parent / path).read_text(encoding="utf-8"))
        assert set(rows_of_figures(text)) <= set(known), path
        checked += len(rows_of_figures(text))
    assert checked == 12
    own = README.read_text(encoding="utf-8")
    own = own[own.index("**MovieLens-1M**") : own.index("**MovieLens-100K**")]
    known = rows_of_figures((ROOT / "docs/results/ml-1m.md").read_text(encoding="utf-8"))
    assert set(rows_of_figures(own)) <= set(known)
    assert len(rows_of_figures(own)) == 5
