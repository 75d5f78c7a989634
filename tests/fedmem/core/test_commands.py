"""Help texts: wrapped paragraphs, examples as they stand, mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmem.core.commands import command_parser, description, summary
from fedmem.runs.command_line import settings_first
from fedmem.runs.configuration import compose_settings

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


def test_options_and_settings_may_begin_with_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = command_parser("something", DOCSTRING)
    parser.add_argument("--out", type=Path)
    parser.add_subparsers(dest="what").add_parser("part").add_argument("file", type=Path)
    asked = parser.parse_args(["--out", "~/a/~b", "part", "~/c"])
    assert (asked.out, asked.file) == (tmp_path / "a" / "~b", tmp_path / "c")
    places = ["data.dir=~/x", "checkpoint.dir=~", "run.resume=~/y", "data.visual_file='a~/b'"]
    settings = compose_settings(places)
    assert settings.data.dir == f"{tmp_path}/x"
    assert settings.checkpoint.dir == str(tmp_path)
    assert settings.run.resume == f"{tmp_path}/y"
    assert settings.data.visual_file == "a~/b"
    assert settings_first(["data.dir=~/a,~/my b", "~seed"]) == [
        f"data.dir={tmp_path}/a,'{tmp_path}/my b'",
        "~seed",
    ]
    of_hydra = ["hydra.run.dir=~/r", "hydra.sweep.dir=~/s", "seed=1"]
    assert settings_first(of_hydra) == [
        f"hydra.run.dir={tmp_path}/r",
        f"hydra.sweep.dir={tmp_path}/s",
        "seed=1",
    ]


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
    asked = parser.parse_with_settings(["a=1", "--top", "3", "b=2", "~c"])
    assert (asked.top, asked.settings) == (3, ["a=1", "b=2", "~c"])
    assert parser.parse_with_settings([]).settings == []
    assert "50% of it." in parser.format_help()
    with pytest.raises(SystemExit) as ended:
        parser.parse_with_settings(["--top", "x"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "fedmem: argument --top: invalid int value: 'x'. "
        "python -m fedmem.something --help lists the options.\n"
    )


def test_a_misspelt_option_is_named_and_so_is_the_one_near_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with_settings, with_parts = (command_parser("something", DOCSTRING) for _ in range(2))
    with_settings.add_settings()
    with_settings.add_argument("--port", type=int)
    with_parts.add_subparsers().add_parser("part").add_argument("--picture")
    for parse, arguments, words in (
        (
            with_settings.parse_with_settings,
            ["--prot", "1"],
            "there is no option --prot, but --port.",
        ),
        (with_settings.parse_args, ["a=1", "--prot=1"], "there is no option --prot, but --port."),
        (with_settings.parse_with_settings, ["--cfg", "job"], "there is no option --cfg."),
        (
            with_parts.parse_args,
            ["part", "--pictur", "--pictrue"],
            "there is no option --pictrue, but --picture.",
        ),
    ):
        with pytest.raises(SystemExit) as ended:
            parse(arguments)
        assert ended.value.code == 2
        shown = capsys.readouterr().err
        assert shown == f"fedmem: {words} python -m fedmem.something --help lists the options.\n"
    assert with_settings.parse_with_settings(["--por", "1", "a=1"]).port == 1
    assert with_parts.parse_args(["part", "--picture", "x"]).picture == "x"
