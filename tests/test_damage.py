"""Whatever happens to a file: it reads as it was written, or ends in a mistake of a few lines.

Bytes are flipped, files cut short, padded, swapped for each other. `make test-full` does more.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmem.core.checkpoint import Checkpoint
from fedmem.core.checkpoint.foreign import diagnose, is_foreign, read_foreign
from fedmem.core.data import load_content, load_interactions
from fedmem.core.settings import Settings
from tests.helpers.mistakes import or_mistake
from tests.helpers.shared_runs import TrainOnce

MakeSettings = Callable[..., Settings]
Damage = Callable[[bytes], bytes]
DRAWN = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}
PLACES = st.one_of(st.floats(0, 1), st.floats(0, 0.02), st.floats(0.98, 1))
"""Where in a file, as a share of its length; its ends hold what it says of itself."""


@st.composite
def damages(draw: st.DrawFn) -> Damage:
    """Something that happens to a file's bytes."""
    kind = draw(st.sampled_from(["flip", "flip", "flip", "cut", "pad", "zero", "repeat", "swap"]))
    start, stop = sorted((draw(PLACES), draw(PLACES)))
    bits = draw(st.integers(1, 255))

    def damage(whole: bytes) -> bytes:
        first, last = (min(int(place * len(whole)), len(whole) - 1) for place in (start, stop))
        if kind == "flip":
            return whole[:first] + bytes([whole[first] ^ bits]) + whole[first + 1 :]
        if kind == "cut":
            return whole[:first]
        if kind == "pad":
            return whole + whole[first:last]
        if kind == "zero":
            return whole[:first] + bytes(last - first) + whole[last:]
        if kind == "repeat":
            return whole[:last] + whole[first:]
        return whole[last:] + whole[first:last] + whole[:first]

    return damage


@pytest.fixture
def trained(make_settings: MakeSettings, train_once: TrainOnce) -> Settings:
    settings = make_settings("stage=pretrain_sasrec", "federation.rounds=1")
    train_once(settings)
    return settings


def a_damaged_checkpoint(trained: Settings, damage: Damage) -> None:
    """It is refused, or is the same to the bit."""
    path = Path(trained.checkpoint.dir) / "pretrain_sasrec.safetensors"
    broken = path.with_name("broken.safetensors")
    broken.write_bytes(damage(path.read_bytes()))
    found = or_mistake(lambda: Checkpoint.load(broken))
    if found is not None:
        made = Checkpoint.load(path)
        assert found.hash == made.hash
        assert (found.stage, found.round, found.catalogue, found.metrics, found.model) == (
            made.stage,
            made.round,
            made.catalogue,
            made.metrics,
            made.model,
        )


def a_damaged_feature_file(given_settings: Settings, damage: Damage) -> None:
    """It is refused, or its vectors are the same to the bit."""
    path = Path(given_settings.data.dir) / "visual_features.pt"
    kept = path.with_name("kept.pt")
    if not kept.exists():
        kept.write_bytes(path.read_bytes())
    path.write_bytes(kept.read_bytes())
    interactions = load_interactions(given_settings.data)
    made = load_content(given_settings.data, interactions)
    path.write_bytes(damage(kept.read_bytes()))
    found = or_mistake(lambda: load_content(given_settings.data, interactions))
    assert found is None or torch.equal(found.visual, made.visual)


def a_damaged_foreign_file(folder: Path, damage: Damage, form: str) -> None:
    """It is refused or read; in a zip archive, as it was."""
    path = folder / "model.pt"
    weights = {"sasrec.item_emb.weight": torch.arange(60.0).view(20, 3), "epoch": torch.tensor(3)}
    torch.save(weights, path, _use_new_zipfile_serialization=form == "zip")
    path.write_bytes(damage(path.read_bytes()))
    assert isinstance(is_foreign(path), bool)
    found = or_mistake(lambda: read_foreign(path))
    if found is not None:
        diagnose(found)
        if form == "zip":
            name = "sasrec.item_emb.weight"
            assert name not in found or torch.equal(found[name], weights[name])


@settings(max_examples=120, **DRAWN)
@given(damages())
def test_a_damaged_checkpoint(trained: Settings, damage: Damage) -> None:
    a_damaged_checkpoint(trained, damage)


@settings(max_examples=120, **DRAWN)
@given(damages())
def test_a_damaged_feature_file(make_settings: MakeSettings, damage: Damage) -> None:
    a_damaged_feature_file(cached(make_settings), damage)


@pytest.mark.parametrize("form", ["zip", "old"])
@settings(max_examples=60, **DRAWN)
@given(damages())
def test_a_damaged_foreign_file(tmp_path: Path, form: str, damage: Damage) -> None:
    a_damaged_foreign_file(tmp_path, damage, form)


@pytest.mark.slow
@settings(max_examples=3000, **DRAWN)
@given(damages())
def test_a_damaged_checkpoint_in_depth(trained: Settings, damage: Damage) -> None:
    a_damaged_checkpoint(trained, damage)


@pytest.mark.slow
@settings(max_examples=3000, **DRAWN)
@given(damages())
def test_a_damaged_feature_file_in_depth(make_settings: MakeSettings, damage: Damage) -> None:
    a_damaged_feature_file(cached(make_settings), damage)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["zip", "old"])
@settings(max_examples=3000, **DRAWN)
@given(damages())
def test_a_damaged_foreign_file_in_depth(tmp_path: Path, form: str, damage: Damage) -> None:
    a_damaged_foreign_file(tmp_path, damage, form)


@pytest.mark.parametrize("swapped", ["checkpoint", "interactions", "text"])
def test_a_file_of_another_kind_in_its_place(swapped: str, trained: Settings) -> None:
    folder, checkpoints = Path(trained.data.dir), Path(trained.checkpoint.dir)
    other = {
        "checkpoint": checkpoints / "pretrain_sasrec.safetensors",
        "interactions": folder / "ratings.dat",
        "text": folder / "visual_features.pt",
    }[swapped]
    if swapped != "checkpoint":
        path = checkpoints / "swapped.safetensors"
        path.write_bytes(other.read_bytes())
        assert or_mistake(lambda: Checkpoint.load(path)) is None
    if swapped != "text":
        (folder / "text_features.pt").write_bytes(other.read_bytes())
        interactions = load_interactions(trained.data)
        assert or_mistake(lambda: load_content(trained.data, interactions)) is None


def cached(make_settings: MakeSettings) -> Settings:
    """The tiny federation's settings: made once a test, since the fixture serves all its draws."""
    if not hasattr(make_settings, "made"):
        make_settings.made = make_settings()  # type: ignore[attr-defined]
    return make_settings.made  # type: ignore[attr-defined,no-any-return]
