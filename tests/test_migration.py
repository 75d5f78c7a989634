"""The migration page names settings that exist, at their defaults, and lines of the doctor."""

from __future__ import annotations

import re
from pathlib import Path

from fedmem.doctor.checks import CHECKS
from fedmem.runs.configuration import compose_settings

PAGE = (Path(__file__).parents[1] / "docs" / "migration.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `--\S+.*?` \| `(\S+=\S*)` \|", PAGE, flags=re.MULTILINE)
DEFAULT = compose_settings()


def test_every_flag_has_a_setting_and_the_value_given_is_its_default() -> None:
    assert len(ROWS) == PAGE.count("| `--") > 25
    keys = {setting.partition("=")[0] for setting in ROWS}
    assert len(keys) == len(set(ROWS))  # so that none hides another
    assert compose_settings(ROWS) == DEFAULT


def test_settings_that_are_named_in_passing_exist() -> None:
    known = {key for key, value in vars(DEFAULT).items() if hasattr(value, "__dict__")}
    for group, key in re.findall(r"`([a-z]+)\.([a-z_]+)", PAGE):
        if group in known:
            assert hasattr(getattr(DEFAULT, group), key), f"{group}.{key}"


def test_every_line_of_the_doctor_that_is_named_exists() -> None:
    answers = PAGE[PAGE.index("## Questions") :]
    named = {
        " ".join(name.split()) for name in re.findall(r"(?<!\*)\*([a-z0-9\s]+)\*(?!\*)", answers)
    }
    assert named - {"training"} <= {check.name for check in CHECKS}
    assert len(named) > 8
