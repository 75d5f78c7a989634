"""What a stage starts from, and the hash that names it."""

from __future__ import annotations

import pytest
import torch

from fedmem.core.model.parameters import content_hash, initial_parameters
from fedmem.core.settings import Settings
from fedmem.core.stages import ALIGN_PROJECTORS, FINETUNE_MOE, PRETRAIN_SASREC

WIDTHS = (12, 8)


def test_a_hash_knows_names_shapes_and_every_bit() -> None:
    start = {"a": torch.zeros(2, 3), "b": torch.ones(2)}
    same = {"b": torch.ones(2), "a": torch.zeros(2, 3)}
    assert content_hash(start) == content_hash(same)
    for other in (
        {"a": torch.zeros(3, 2), "b": torch.ones(2)},
        {"a": torch.zeros(2, 3), "c": torch.ones(2)},
        {"a": torch.zeros(2, 3), "b": torch.tensor([1.0, 1.0 + 2**-23])},
        {"a": -torch.zeros(2, 3), "b": torch.ones(2)},
    ):
        assert content_hash(start) != content_hash(other)


def test_modules_are_inherited_whole_and_the_rest_starts_fresh(settings: Settings) -> None:
    first = initial_parameters(settings.model, PRETRAIN_SASREC, 40, WIDTHS, 0, {})
    second = initial_parameters(
        settings.model, ALIGN_PROJECTORS, 40, WIDTHS, 0, {"pretrain_sasrec": first}
    )
    trained = {n: v + 1 if n.startswith("visual_proj") else v for n, v in second.items()}
    third = initial_parameters(
        settings.model,
        FINETUNE_MOE,
        40,
        WIDTHS,
        0,
        {"pretrain_sasrec": first, "align_projectors": trained},
    )
    assert all(torch.equal(third[name], value) for name, value in trained.items())
    assert not second["visual_proj.weight"].any()
    assert third["gating_weight.memory"] == 0
    assert any(name.startswith("router.") for name in third)


def test_the_seed_decides_where_training_starts(settings: Settings) -> None:
    torch.manual_seed(5)
    one = initial_parameters(settings.model, PRETRAIN_SASREC, 40, WIDTHS, 0, {})
    untouched = torch.rand(1)
    torch.manual_seed(5)
    assert torch.rand(1) == untouched  # and the caller's own random numbers stay as they were
    again = initial_parameters(settings.model, PRETRAIN_SASREC, 40, WIDTHS, 0, {})
    other = initial_parameters(settings.model, PRETRAIN_SASREC, 40, WIDTHS, 1, {})
    assert content_hash(one) == content_hash(again) != content_hash(other)


def test_half_a_module_is_not_taken(settings: Settings) -> None:
    first = initial_parameters(settings.model, PRETRAIN_SASREC, 40, WIDTHS, 0, {})
    del first["sasrec.item_emb.weight"]
    with pytest.raises(RuntimeError, match=r"item_emb\.weight"):
        initial_parameters(
            settings.model, ALIGN_PROJECTORS, 40, WIDTHS, 0, {"pretrain_sasrec": first}
        )
