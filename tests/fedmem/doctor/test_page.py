"""docs/doctor.md is what the code makes, and every check explains itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmem.doctor.checks import CHECKS
from fedmem.doctor.finding import Check
from fedmem.doctor.page import page, parts_of

PAGE = Path(__file__).parents[3] / "docs" / "doctor.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "python -m fedmem.doctor.page > docs/doctor.md"


@pytest.mark.parametrize("one", CHECKS, ids=lambda one: one.name)
def test_a_check_says_what_it_looks_at_and_when_it_complains(one: Check) -> None:
    looks_at, warning, problem = parts_of(one)
    assert looks_at
    assert warning or problem
