"""What each stage trains, checked against the parameters of a real model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch

from fedmem.core.errors import FedmemError
from fedmem.core.model import Content, Recommender
from fedmem.core.stages import CONTROLS, STAGES, find_stage
from fedmem.runs.configuration import compose_settings

SETTINGS = compose_settings()
CONTENT = Content(visual=torch.zeros(11, 512), text=torch.zeros(11, 384))


def parameters_of(stage: str) -> dict[str, torch.Tensor]:
    return dict(Recommender(SETTINGS.model, STAGES[stage], 10, CONTENT).named_parameters())


def count(parameters: dict[str, torch.Tensor], names: Iterable[str]) -> int:
    return sum(parameters[name].numel() for name in names)


def test_stages_come_in_the_order_of_training() -> None:
    assert list(STAGES) == ["pretrain_sasrec", "align_projectors", "finetune_moe"]


def test_stage_1_trains_its_whole_model() -> None:
    parameters = parameters_of("pretrain_sasrec")
    scope, frozen = STAGES["pretrain_sasrec"].split(parameters)
    assert scope == list(parameters)
    assert frozen == []
    assert {name.split(".")[0] for name in scope} == {"sasrec"}


def test_stage_2_trains_exactly_139714_parameters() -> None:
    parameters = parameters_of("align_projectors")
    scope, _ = STAGES["align_projectors"].split(parameters)
    # 512·128 + 128, 384·128 + 128, 3·128·64 + 64 and 64·2 + 2
    assert count(parameters, scope) == 65_664 + 49_280 + 24_640 + 130 == 139_714


def test_stage_2_trains_the_projectors_and_the_gating_only() -> None:
    scope, frozen = STAGES["align_projectors"].split(parameters_of("align_projectors"))
    assert {n.split(".")[0] for n in scope} == {"visual_proj", "text_proj", "align_gating"}
    assert {n.split(".")[0] for n in frozen} == {"sasrec", "gating_weight"}
    assert len(scope) == 8


def test_stage_3_freezes_the_item_embeddings_and_nothing_else() -> None:
    scope, frozen = STAGES["finetune_moe"].split(parameters_of("finetune_moe"))
    assert frozen == ["sasrec.item_emb.weight"]
    assert {name.split(".")[0] for name in scope} == {
        "sasrec",
        "visual_proj",
        "text_proj",
        "align_gating",
        "visual_expert",
        "semantic_expert",
        "identity_expert",
        "router",
        "gating_weight",
    }


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_stage_holds_the_modules_of_its_graph_and_no_others(stage: str) -> None:
    held = {name.split(".")[0] for name in parameters_of(stage)}
    assert held == set(STAGES[stage].modules)


@pytest.mark.parametrize("stage", list(STAGES))
def test_splitting_parts_the_names_and_keeps_their_order(stage: str) -> None:
    names = list(parameters_of(stage))
    scope, frozen = STAGES[stage].split(names)
    assert sorted(scope + frozen) == sorted(names)
    assert scope == [name for name in names if name in scope]
    assert frozen == [name for name in names if name in frozen]


def test_a_stage_requires_only_stages_before_it() -> None:
    names = list(STAGES)
    for place, stage in enumerate(STAGES.values()):
        assert set(stage.requires) <= set(names[:place])


def test_an_unknown_stage_is_refused_with_the_choices() -> None:
    with pytest.raises(FedmemError) as caught:
        find_stage("pretrain")
    for word in ("pretrain", *STAGES):
        assert word in str(caught.value)


def test_the_controls_are_stage_1_for_as_many_rounds_as_the_other_two_have() -> None:
    free, frozen, *_ = CONTROLS.values()
    first = STAGES["pretrain_sasrec"]
    numbers = [
        compose_settings([f"stage={stage.name}"]).stage[stage.name] for stage in (free, frozen)
    ]
    own, *others = SETTINGS.stage.values()
    assert numbers == [replace(own, rounds=sum(other.rounds for other in others))] * 2
    names = list(parameters_of("pretrain_sasrec"))
    assert free.split(names) == first.split(names)
    assert frozen.split(names)[1] == ["sasrec.item_emb.weight"]


def test_a_stage_that_projects_content_has_no_row_of_an_item() -> None:
    projected = CONTROLS["projected_sasrec"]
    model = Recommender(SETTINGS.model, projected, 10, CONTENT)
    parameters = dict(model.named_parameters())
    scope, frozen = projected.split(parameters)
    assert frozen == []
    others = set(parameters_of("pretrain_sasrec")) - {"sasrec.item_emb.weight"}
    assert set(scope) == others | {"sasrec.item_emb.projection"}
    assert parameters["sasrec.item_emb.projection"].shape == (512 + 384, SETTINGS.model.dim)
    assert projected.reads_content
    assert not projected.makes_table
