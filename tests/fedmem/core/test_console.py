"""Lines are printed as they are; tables have their figures to the right."""

from __future__ import annotations

import io

from rich.console import Console

from fedmem.core.console import make_table, say


def test_a_line_is_printed_as_it_is() -> None:
    text = io.StringIO()
    line = "data.columns=[user,item] [bold]not bold[/bold] " + "long " * 20 + ":smile: 1_000"
    say(line, Console(file=text, width=40, force_terminal=True))
    assert text.getvalue() == f"{line}\n"


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
