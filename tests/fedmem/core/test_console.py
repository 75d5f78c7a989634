"""Lines are printed as they are; tables have their figures to the right."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fedmem.core.console import make_table, say, show_anything


def test_a_line_is_printed_as_it_is() -> None:
    text = io.StringIO()
    line = "data.columns=[user,item] [bold]not bold[/bold] " + "long " * 20 + ":smile: 1_000"
    say(line, Console(file=text, width=40, force_terminal=True))
    assert text.getvalue() == f"{line}\n"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "a − b … 3 × Amélie 日 ?"),
        ("latin-1", "a - b ... 3 × Amélie ? ?"),
        ("ascii", "a - b ... 3 x Amelie ? ?"),
    ],
)
def test_whatever_the_terminal_cannot_show_is_replaced(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last sign is of a file's name that is no text."""
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding, write_through=True))
    show_anything()
    say("a − b … 3 × Amélie 日 \udcff")
    assert written.getvalue().decode(encoding) == f"{shown}\n"


def test_a_table_names_its_rows_left_and_has_figures_right() -> None:
    table = make_table("stage", "HR\n@10", "rounds", gap=2)
    table.add_row("pretrain", ".1", "30")
    text = io.StringIO()
    Console(file=text, width=80).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    assert lines == ["           HR", "stage     @10  rounds", "pretrain   .1      30"]


def test_a_name_that_is_too_long_folds_and_no_figure_is_lost() -> None:
    table = make_table("", "users", "items")
    table.add_row("a reason that has many words to it", "1,234,567", "7,654,321")
    text = io.StringIO()
    Console(file=text, width=40).print(table)
    assert "1,234,567 7,654,321" in text.getvalue()
    assert "".join(text.getvalue().split()).count("words") == 1
