"""Every choice in `conf/` composes into valid settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmem.core.stages import CONTROLS, STAGES
from fedmem.runs.configuration import compose_settings

CONF = Path(__file__).parents[3] / "conf"
CHOICES = sorted(
    f"{path.parent.name}={path.stem}" for path in CONF.glob("*/*.yaml") if path.is_file()
)


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_composes(choice: str) -> None:
    assert set(compose_settings([choice]).stage) <= set(STAGES | CONTROLS)


def test_the_stage_group_has_every_stage_and_all_of_them_in_order() -> None:
    for stage in STAGES | CONTROLS:
        assert list(compose_settings([f"stage={stage}"]).stage) == [stage]
    assert list(compose_settings([]).stage) == list(STAGES)
