"""Help texts: wrapped paragraphs, examples as they stand, mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmem.core.commands import command_parser, description, summary

DOCSTRING = f"""Do something.

    python -m fedmem.something --with  FILE

{"word " * 30}
"""


def test_a_description_wraps_paragraphs_and_keeps_examples() -> None:
    first, example, prose = description(DOCSTRING).split("\n\n")
    assert first == "Do something."
    assert example == "    python -m fedmem.something --with  FILE"
    assert prose.split() == ["word"] * 30
    assert max(map(len, prose.splitlines())) <= 78


def test_a_summary_is_the_first_line_and_imports_nothing(tmp_path: Path) -> None:
    file = tmp_path / "something.py"
    file.write_text(f'"""{DOCSTRING}"""\nraise ImportError\n')
    assert summary(file) == "Do something"


def test_settings_stand_among_options_and_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parser = command_parser("something", "50% of it.")
    parser.add_settings()
    parser.add_argument("--top", type=int)
    asked = parser.parse_with_settings(["a=1", "--top", "3", "b=2", "--flag"])
    assert (asked.top, asked.settings) == (3, ["a=1", "b=2", "--flag"])
    assert parser.parse_with_settings([]).settings == []
    assert "50% of it." in parser.format_help()
    with pytest.raises(SystemExit) as ended:
        parser.parse_with_settings(["--top", "x"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "fedmem: argument --top: invalid int value: 'x'. "
        "python -m fedmem.something --help lists the options.\n"
    )
