"""The migration page names settings that exist, at their defaults, and lines of the doctor."""

from __future__ import annotations

import re
from pathlib import Path

from fedmem.doctor.checks import CHECKS
from fedmem.runs.configuration import compose_settings

PAGE = (Path(__file__).parents[1] / "docs" / "migration.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `--\S+.*?` \| `(\S+=\S*)` \|", PAGE, flags=re.MULTILINE)


def test_every_flag_has_a_setting_and_the_value_given_is_its_default() -> None:
    assert len(ROWS) == PAGE.count("| `--") > 25
    default = compose_settings()
    for setting in ROWS:
        assert compose_settings([setting]) == default, setting


def test_settings_that_are_named_in_passing_exist() -> None:
    known = {key for key, value in vars(compose_settings()).items() if hasattr(value, "__dict__")}
    for group, key in re.findall(r"`([a-z]+)\.([a-z_]+)", PAGE):
        if group in known:
            assert hasattr(getattr(compose_settings(), group), key), f"{group}.{key}"


def test_every_line_of_the_doctor_that_is_named_exists() -> None:
    answers = PAGE[PAGE.index("## Questions") :]
    named = {
        " ".join(name.split()) for name in re.findall(r"(?<!\*)\*([a-z0-9\s]+)\*(?!\*)", answers)
    }
    assert named - {"training"} <= {check.name for check in CHECKS}
    assert len(named) > 8
