"""Every choice in `conf/` composes into valid settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fedmem.core.stages import CENTRALISED, CONTROLS, STAGES
from fedmem.runs.configuration import compose_settings, pooled

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


def test_several_stages_are_chosen_as_a_list_and_keep_their_order() -> None:
    chosen = compose_settings(["stage=[align_projectors,finetune_moe]"])
    assert list(chosen.stage) == ["align_projectors", "finetune_moe"]
    assert chosen.stage["finetune_moe"] == compose_settings().stage["finetune_moe"]


@pytest.mark.parametrize("choice", ["stage=all", "stage=finetune_moe"])
def test_training_on_pooled_data_has_the_loss_of_stage_1(choice: str) -> None:
    settings = pooled(compose_settings([choice, "centralised.epochs=7"]))
    first = compose_settings().stage["pretrain_sasrec"]
    assert settings.stage == {CENTRALISED.name: replace(first, rounds=7)}
    assert pooled(settings) is settings
