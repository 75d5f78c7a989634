"""Foreign files: what they are, what of them fits, and why the rest does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.checkpoint.foreign import diagnose, is_foreign, read_foreign
from fedmem.core.errors import FedmemError
from fedmem.core.model.backbone import SASRec
from fedmem.core.model.dropout import NO_DROPOUT
from fedmem.runs.configuration import compose_settings
from tests.helpers.foreign_models import (
    Parameters,
    PortedSASRec,
    earlier_architecture,
)
from tests.helpers.small_world import SMALL

MODEL = compose_settings([*SMALL, "model.feedforward=16"]).model
ITEMS, LENGTH = 30, MODEL.max_length


def port() -> PortedSASRec:
    torch.manual_seed(0)
    return PortedSASRec(ITEMS, MODEL.dim, MODEL.blocks, MODEL.heads, LENGTH).eval()


def ours() -> Parameters:
    torch.manual_seed(0)
    backbone = SASRec(MODEL, ITEMS)
    return {f"sasrec.{name}": value for name, value in backbone.state_dict().items()}


def renamed(theirs: Parameters) -> Parameters:
    """The port's parameters by our names, as if both computed the same."""
    parts = {
        r"attention_layernorms\.(\d+)": r"blocks.\1.attention_norm",
        r"attention_layers\.(\d+)\.in_proj_": r"blocks.\1.qkv.",
        r"attention_layers\.(\d+)\.out_proj": r"blocks.\1.out",
        r"forward_layernorms\.(\d+)": r"blocks.\1.feedforward_norm",
        r"forward_layers\.(\d+)\.conv1": r"blocks.\1.expand",
        r"forward_layers\.(\d+)\.conv2": r"blocks.\1.contract",
        "last_layernorm": "norm",
    }
    found = {}
    for name, value in theirs.items():
        for pattern, name_here in parts.items():
            name = re.sub(f"^{pattern}", name_here, name)
        found[name] = value.squeeze(2) if "expand.weight" in name or "contract.w" in name else value
    found["pos_emb.weight"] = found["pos_emb.weight"][1:]
    return found


@torch.no_grad()
def test_the_ports_numbers_give_its_hidden_states_only_where_no_padding_is() -> None:
    """Why its backbone is not taken: a short history gets other hidden states."""
    theirs, here = port(), SASRec(MODEL, ITEMS)
    here.load_state_dict(renamed(theirs.saved()), strict=True)
    full = torch.randint(1, ITEMS, (4, LENGTH))
    difference = (theirs(full) - here(full, NO_DROPOUT)).abs().max()
    assert 0 < difference < 1e-3  # LayerNorm's epsilon
    short = full[:, :3]
    padded = torch.cat([torch.zeros(4, LENGTH - 3, dtype=torch.long), short], dim=1)
    difference = (theirs(padded)[:, -1] - here(short, NO_DROPOUT)[:, -1]).abs().max()
    assert difference > 0.1


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_a_backbone_with_our_names_is_taken_whole(wrapped: bool, form: str, tmp_path: Path) -> None:
    path, parameters = tmp_path / f"model.{form}", ours()
    parameters["visual_proj.weight"] = torch.ones(16, 12)
    if form == "safetensors":
        save_file(parameters, path)
    else:
        module = {f"module.{k}": v for k, v in parameters.items()}
        optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}}
        content = {"epoch": 3, "model_state_dict": module, "optimizer_state_dict": optimizer}
        torch.save(content if wrapped else parameters, path)
    assert is_foreign(path)
    found = diagnose(read_foreign(path))
    assert found.backbone.keys() == ours().keys()
    assert all(torch.equal(found.backbone[name], value) for name, value in ours().items())
    assert [(item.name, item.why) for item in found.left] == [
        ("visual_proj.weight", "stage 2 trains it")
    ]
    sizes = {"dim": 16, "blocks": 2, "feedforward": 16, "max_length": 8, "items": ITEMS}
    assert found.sizes == sizes
    with pytest.raises(FedmemError, match="Stage 1 need not run again, its backbone fits"):
        Checkpoint.load(path)


@pytest.mark.parametrize("name", ["sasrec.norm.bias", "sasrec.blocks.1.qkv.weight"])
@pytest.mark.parametrize("fault", ["lacking", "shape", "type"])
def test_a_part_of_a_backbone_is_not_taken(name: str, fault: str) -> None:
    parameters = ours()
    value = parameters.pop(name)
    if fault == "shape":
        parameters[name] = value[:-1]
    elif fault == "type":
        parameters[name] = value.to(torch.int32)
    found = diagnose(parameters)
    assert found.backbone == {}
    assert name.removeprefix("sasrec.") in found.why_not
    assert {item.name for item in found.left} == parameters.keys()


def test_the_earlier_architecture_is_refused_name_by_name(tmp_path: Path) -> None:
    path, parameters = tmp_path / "stage2.pt", earlier_architecture()
    torch.save({"config": {"memory_capacity": 50}, "model_state_dict": parameters}, path)
    found = diagnose(read_foreign(path))
    assert found.kind == "of the earlier architecture"
    assert found.backbone == {}
    reasons = {item.name: item.why for item in found.left}
    assert reasons.keys() == parameters.keys()
    assert "keeps the 512" in reasons["visual_expert.layer_norm.weight"]
    assert "keeps the 384" in reasons["semantic_expert.query_proj.weight"]
    assert "padding" in reasons["sasrec.attention_layers.0.in_proj_weight"]
    assert "stage 3 trains it" in reasons["router.weight"]
    with pytest.raises(FedmemError) as caught:
        Checkpoint.load(path)
    message = str(caught.value)
    assert "visual_expert.layer_norm.weight [512]" in message
    assert "semantic_expert.layer_norm.weight [384]" in message
    assert "1,229,056 parameters beside the backbone" in message
    assert "Train stage 1 again: python -m fedmem.simulate stage=pretrain_sasrec" in message
    assert len(message.splitlines()) <= 3


def test_the_earlier_architecture_with_our_backbone_need_not_run_stage_1_again() -> None:
    experts = {k: v for k, v in earlier_architecture().items() if "expert" in k}
    found = diagnose({**ours(), **experts})
    assert found.kind == "of the earlier architecture"
    assert found.backbone.keys() == ours().keys()
    assert {item.name for item in found.left} == experts.keys()


def test_the_port_is_refused_as_such(tmp_path: Path) -> None:
    path = tmp_path / "SASRec.pth"
    torch.save(port().saved(), path)
    with pytest.raises(FedmemError, match=r"a SASRec of the PyTorch port.*hidden states"):
        Checkpoint.load(path)


def test_other_names_say_that_it_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.ones(2)}, path)
    with pytest.raises(FedmemError, match="a model that fedmem does not know, and no checkpoint"):
        Checkpoint.load(path)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, torch.ones(3), []])
def test_a_file_without_named_tensors_is_no_model(content: object, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(FedmemError, match="it is no model"):
        read_foreign(path)
