"""Checkpoints come back bit-identical, and one that does not fit is refused with the reason."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fedmem.core.checkpoint import Checkpoint, checkpoint_path, load_parents
from fedmem.core.errors import FedmemError
from fedmem.core.files.sealed import METADATA_KEY, save_sealed
from fedmem.core.model import Content, Recommender
from fedmem.core.settings import CheckpointSettings, Settings
from fedmem.core.stages import STAGES
from fedmem.runs.configuration import compose_settings
from tests.helpers.small_world import SMALL

TINY = compose_settings(SMALL)
MODEL = TINY.model
CATALOGUE = "0123456789abcdef"
FIRST, SECOND, THIRD = STAGES.values()


def checkpoint(stage: str = FIRST.name, seed: int = 0, **changes: Any) -> Checkpoint:
    torch.manual_seed(seed)
    model = Recommender(MODEL, STAGES[stage], 5, Content(torch.ones(6, 3), torch.ones(6, 2)))
    made = Checkpoint(
        stage=stage,
        catalogue=CATALOGUE,
        model=MODEL,
        round=7,
        metrics={"sampled/HR@10": 0.1 + 0.2},
        parents={},
        parameters=model.state_dict(),
    )
    return replace(made, **changes)


def looking_in(folder: Path, **pointed: str) -> Settings:
    places = {"pretrain_sasrec": None, "align_projectors": None, **pointed}
    return replace(TINY, checkpoint=CheckpointSettings(dir=str(folder), **places))


def saved(folder: Path, made: Checkpoint) -> Path:
    path = folder / f"{made.stage}.safetensors"
    made.save(path)
    return path


def error_of(action: Callable[[], Any]) -> str:
    with pytest.raises(FedmemError) as caught:
        action()
    return str(caught.value)


@pytest.mark.parametrize("stage", list(STAGES))
def test_what_was_saved_comes_back_bit_identical(tmp_path: Path, stage: str) -> None:
    made = checkpoint(stage, parents={"pretrain_sasrec": "f" * 32})
    found = Checkpoint.load(saved(tmp_path / "a" / "new" / "folder", made))
    assert replace(found, parameters={}) == replace(made, parameters={})
    assert found.hash == made.hash
    assert found.parameters.keys() == made.parameters.keys()
    for name, value in made.parameters.items():
        assert torch.equal(found.parameters[name], value)
        assert found.parameters[name].dtype == value.dtype


def test_values_that_are_special_come_back_bit_identical(tmp_path: Path) -> None:
    special = torch.tensor([0.0, -0.0, torch.inf, torch.nan, 1e-45])
    found = Checkpoint.load(saved(tmp_path, checkpoint(parameters={"sasrec.x": special})))
    bits = found.parameters["sasrec.x"].view(torch.int32)
    assert torch.equal(bits, special.view(torch.int32))


def test_the_hash_is_of_names_shapes_and_values() -> None:
    x = torch.arange(6.0)
    made = [{"a": x}, {"b": x}, {"a": x.reshape(2, 3)}, {"a": x + 1}, {"a": x.double()}]
    assert len({checkpoint(parameters=parameters).hash for parameters in made}) == 5
    assert (
        checkpoint(parameters={"a": x, "b": x}).hash == checkpoint(parameters={"b": x, "a": x}).hash
    )


def test_a_saved_file_replaces_the_one_before_and_leaves_nothing_else(tmp_path: Path) -> None:
    saved(tmp_path, checkpoint(seed=1))
    path = saved(tmp_path, checkpoint(seed=2))
    assert Checkpoint.load(path).hash == checkpoint(seed=2).hash
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kept", [0, 1, 7, 100, -1])
def test_a_truncated_file_is_refused_by_its_path(tmp_path: Path, kept: int) -> None:
    path = saved(tmp_path, checkpoint())
    path.write_bytes(path.read_bytes()[:kept])
    assert str(path) in error_of(lambda: Checkpoint.load(path))


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_flipped_byte_in_the_values_is_found(tmp_path: Path, place: float) -> None:
    path = saved(tmp_path, checkpoint())
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    data[start + int(place * (len(data) - start - 1))] ^= 1
    path.write_bytes(data)
    message = error_of(lambda: Checkpoint.load(path))
    assert str(path) in message
    assert "damaged" in message


def flip(path: Path, text: bytes, with_text: bytes) -> None:
    data = path.read_bytes()
    assert data.count(text) == 1
    assert len(text) == len(with_text)
    path.write_bytes(data.replace(text, with_text))


def test_a_flipped_byte_in_the_round_is_found(tmp_path: Path) -> None:
    path = saved(tmp_path, checkpoint())
    flip(path, rb"\"round\": 7", rb"\"round\": 5")
    error_of(lambda: Checkpoint.load(path))


@pytest.mark.parametrize(
    ("text", "with_text"),
    [(rb"\"round\"", rb"\"rount\""), (rb"\"hash\"", rb"\"hush\""), (rb"\"heads\"", rb"\"beads\"")],
    ids=["round", "hash", "model"],
)
def test_a_flipped_byte_in_a_name_is_found(tmp_path: Path, text: bytes, with_text: bytes) -> None:
    path = saved(tmp_path, checkpoint())
    flip(path, text, with_text)
    error_of(lambda: Checkpoint.load(path))


def test_a_checkpoint_with_model_settings_of_another_version_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, checkpoint())
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()[METADATA_KEY])
    about["model"]["of_a_later_version"] = 1
    save_file(load_file(path), path, metadata={METADATA_KEY: json.dumps(about)})
    assert str(path) in error_of(lambda: Checkpoint.load(path))


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_foreign_safetensors_file_is_refused(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.ones(2)}, path, metadata=metadata)
    message = error_of(lambda: Checkpoint.load(path))
    assert str(path) in message
    assert "no checkpoint of fedmem" in message


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save({"weight": torch.ones(2)}, path)
    assert str(path) in error_of(lambda: Checkpoint.load(path))


@pytest.mark.parametrize("damage", ["complex numbers", "folder in the way"])
def test_a_failing_save_leaves_no_file_under_the_final_name(tmp_path: Path, damage: str) -> None:
    path, made = tmp_path / "pretrain_sasrec.safetensors", checkpoint()
    if damage == "complex numbers":  # the format has none
        made = checkpoint(parameters={"a": torch.ones(4, dtype=torch.complex64)})
    else:
        path.with_name(f"{path.name}.{os.uname().nodename}.{os.getpid()}.partial").mkdir()
    with pytest.raises(Exception):  # noqa: B017, PT011
        made.save(path)
    assert not path.exists()


def test_a_failing_save_leaves_the_file_before_as_it_was(tmp_path: Path) -> None:
    path = saved(tmp_path, checkpoint())
    with pytest.raises(KeyError):
        checkpoint(parameters={"a": torch.ones(4, dtype=torch.complex64)}).save(path)
    assert Checkpoint.load(path).hash == checkpoint().hash


def test_a_checkpoint_of_another_stage_is_refused(tmp_path: Path) -> None:
    checkpoint(SECOND.name).save(tmp_path / "pretrain_sasrec.safetensors")
    message = error_of(lambda: load_parents(looking_in(tmp_path), SECOND, CATALOGUE))
    assert "is a checkpoint of align_projectors, and pretrain_sasrec is needed" in message


def test_a_checkpoint_of_another_catalogue_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, checkpoint())
    message = error_of(lambda: load_parents(looking_in(tmp_path), SECOND, "another"))
    for word in (str(path), CATALOGUE, "another"):
        assert word in message


@pytest.mark.parametrize(("key", "value"), [("dim", 32), ("max_length", 9), ("blocks", 3)])
def test_a_checkpoint_of_another_size_is_refused_by_the_setting(
    tmp_path: Path, key: str, value: int
) -> None:
    path, other = saved(tmp_path, checkpoint()), replace(MODEL, **{key: value})
    message = error_of(
        lambda: load_parents(replace(looking_in(tmp_path), model=other), SECOND, CATALOGUE)
    )
    assert str(path) in message
    assert f"model.{key}={getattr(MODEL, key)} (here {value})" in message


def test_a_checkpoint_of_other_item_features_is_refused_where_both_are_known(
    tmp_path: Path,
) -> None:
    saved(tmp_path, checkpoint())
    path = saved(
        tmp_path,
        checkpoint(SECOND.name, parents={FIRST.name: checkpoint().hash}, content="c0ffee00"),
    )
    assert Checkpoint.load(path).content == "c0ffee00"
    for content in ("c0ffee00", ""):
        assert load_parents(looking_in(tmp_path), THIRD, CATALOGUE, content)
    message = error_of(lambda: load_parents(looking_in(tmp_path), THIRD, CATALOGUE, "7ea"))
    assert f"{path} was trained with other item features (hash c0ffee00, here 7ea)" in message
    assert "data.visual_file" in message


def test_a_checkpoint_made_before_features_were_noted_is_read(tmp_path: Path) -> None:
    made, path = checkpoint(), tmp_path / "earlier.safetensors"
    about = {k: v for k, v in vars(made).items() if k not in ("parameters", "model", "content")}
    save_sealed(path, {**about, "model": asdict(made.model)}, made.parameters)
    assert Checkpoint.load(path).content == ""


def test_dropout_and_experts_may_differ(tmp_path: Path) -> None:
    saved(tmp_path, checkpoint())
    other = replace(MODEL, dropout=0.5, experts=["identity"])
    assert load_parents(replace(looking_in(tmp_path), model=other), SECOND, CATALOGUE).keys() == {
        FIRST.name
    }


def test_a_missing_parent_comes_with_the_path_and_the_command(tmp_path: Path) -> None:
    message = error_of(lambda: load_parents(looking_in(tmp_path), SECOND, CATALOGUE))
    assert str(tmp_path / "pretrain_sasrec.safetensors") in message
    assert "python -m fedmem.simulate stage=pretrain_sasrec data=ml-1m" in message
    assert f"checkpoint.dir={tmp_path}" in message


def test_stage_3_names_the_parent_that_is_missing(tmp_path: Path) -> None:
    saved(tmp_path, checkpoint())
    message = error_of(lambda: load_parents(looking_in(tmp_path), THIRD, CATALOGUE))
    assert str(tmp_path / "align_projectors.safetensors") in message
    assert "stage=align_projectors" in message


def test_stage_1_has_no_parents(tmp_path: Path) -> None:
    assert load_parents(looking_in(tmp_path / "nowhere"), FIRST, CATALOGUE) == {}


def test_parents_of_one_lineage_are_found_in_their_order(tmp_path: Path) -> None:
    first = checkpoint()
    second = checkpoint(SECOND.name, parents={FIRST.name: first.hash})
    saved(tmp_path, first)
    saved(tmp_path, second)
    found = load_parents(looking_in(tmp_path), THIRD, CATALOGUE)
    assert [(name, one.hash) for name, one in found.items()] == [
        (FIRST.name, first.hash),
        (SECOND.name, second.hash),
    ]


def test_parents_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, checkpoint(seed=1))
    of_another = checkpoint(SECOND.name, parents={FIRST.name: checkpoint(seed=2).hash})
    path = saved(tmp_path, of_another)
    message = error_of(lambda: load_parents(looking_in(tmp_path), THIRD, CATALOGUE))
    assert str(path) in message
    assert str(tmp_path / "pretrain_sasrec.safetensors") in message
    assert "checkpoint.pretrain_sasrec" in message


def test_a_setting_can_point_elsewhere(tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "mine.safetensors")
    settings = looking_in(tmp_path, pretrain_sasrec=elsewhere)
    assert checkpoint_path(settings.checkpoint, FIRST.name) == Path(elsewhere)
    assert (
        checkpoint_path(settings.checkpoint, SECOND.name)
        == tmp_path / "align_projectors.safetensors"
    )
    assert checkpoint_path(settings.checkpoint, THIRD.name) == tmp_path / "finetune_moe.safetensors"
    checkpoint().save(Path(elsewhere))
    assert load_parents(settings, SECOND, CATALOGUE)[FIRST.name].hash == checkpoint().hash
