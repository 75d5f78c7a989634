"""How a command describes itself: by the docstring of its module.

The docstring's first line says what the command does, and `python -m fedmem` lists it. An indented
example follows, then whatever else a user has to know; `--help` prints all of it.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from fedmem.core.console import show_anything
from fedmem.core.errors import MISTAKE_EXIT_CODE
from fedmem.core.files.home import at_home

WIDTH = 78
SETTINGS = (
    "Settings of a run are given as key=value. docs/settings.md explains each of them, the files "
    "of conf/ hold their defaults."
)


class Parser(argparse.ArgumentParser):
    """Options of a command; a mistake in them ends it with one line.

    Options of the type `Path` may begin with `~`.
    """

    def __init__(self, **about: Any) -> None:
        super().__init__(**about)
        self.register("type", Path, lambda text: Path(at_home(text)))

    def error(self, message: str) -> NoReturn:
        """As of `argparse`, without the list of all options."""
        self.exit(MISTAKE_EXIT_CODE, f"fedmem: {message}. {self.prog} --help lists the options.\n")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As of `argparse`, once every option is known: else its value would pass for a setting."""
        given = list(sys.argv[1:] if args is None else args)
        self._require_known(given)
        return super().parse_known_args(given, namespace)

    def add_settings(self) -> None:
        """Let settings of a run stand among the options."""
        words = "settings of the run"
        self.add_argument("settings", nargs="*", default=[], metavar="key=value", help=words)
        self.epilog = wrapped(SETTINGS)

    def parse_with_settings(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:
        """The options, and as `settings` all else; what is no setting Hydra finds."""
        asked, others = self.parse_known_intermixed_args(arguments)
        asked.settings = [*asked.settings, *others]
        return asked

    def _require_known(self, arguments: Sequence[str]) -> None:
        options = list(self._long_options())
        for argument in arguments:
            if argument == "--":  # values follow
                return
            name = argument.partition("=")[0]
            if not re.match("--[a-zA-Z]", name) or any(o.startswith(name) for o in options):
                continue
            near = difflib.get_close_matches(name, options, n=1)
            self.error(f"there is no option {name}" + (f", but {near[0]}" if near else ""))

    def _long_options(self) -> Iterator[str]:
        """Of this command and of those within it."""
        for action in self._actions:
            yield from (option for option in action.option_strings if option.startswith("--"))
            if isinstance(action, argparse._SubParsersAction):
                for within in set(action.choices.values()):
                    yield from within._long_options()


def command_parser(name: str, docstring: str | None) -> Parser:
    """The parser of `python -m fedmem.<name>`, whose help begins with its module's docstring."""
    show_anything()
    return Parser(
        prog=f"python -m fedmem.{name}",
        description=description(docstring),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def description(docstring: str | None) -> str:
    """A docstring as a terminal shows it: paragraphs wrapped, indented blocks as they are."""
    paragraphs = (docstring or "").strip().split("\n\n")
    return "\n\n".join(each if each.startswith(" ") else wrapped(each) for each in paragraphs)


def wrapped(paragraph: str, head: str = "") -> str:
    """A paragraph beside its head, on lines of at most `WIDTH` letters; words stay whole."""
    below = " " * len(head)
    shape = textwrap.TextWrapper(WIDTH, initial_indent=head, subsequent_indent=below)
    shape.break_long_words = shape.break_on_hyphens = False
    return shape.fill(" ".join(paragraph.split()))


def summary(file: Path) -> str:
    """What the command in a file does: the first line of its docstring. Nothing is imported."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0].rstrip(".")
