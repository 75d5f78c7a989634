"""Controls on content: a run with less, or other, content than the data have."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor
from torch.nn import functional as F

from fedmem.core.data import Interactions, load_content
from fedmem.core.model import Content
from fedmem.core.settings import Settings


def content_of(settings: Settings, items: Interactions) -> Content:
    """The items' content, or what `ablation.content` puts in its place.

    Raises:
        FedmemError: as `load_content`.
    """
    key = f"{settings.seed} content {items.fingerprint}"
    return ablate(load_content(settings.data, items), settings.ablation.content, key)


def ablate(content: Content, instead: str, key: str) -> Content:
    """The content that stands in the place of the data's own.

    Args:
        content: the data's own.
        instead: one of `fedmem.core.settings.CONTENTS`. `shuffled` hands the items' pictures and
            texts round together, so that every item has those of one other; `random` puts normal
            noise of the same length in the place of each vector. Both leave as many items without
            content.
        key: of what is drawn.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    visual, text = content.visual, content.text
    if instead == "without_picture":
        return Content(torch.zeros_like(visual), text)
    if instead == "without_text":
        return Content(visual, torch.zeros_like(text))
    if instead == "shuffled":
        order = torch.randperm(len(visual) - 1, generator=generator) + 1
        giver = torch.zeros(len(visual), dtype=torch.long)
        giver[order] = order.roll(1)  # one cycle: nobody keeps their own
        return Content(visual[giver], text[giver])
    if instead == "random":
        return Content(_noise_like(visual, generator), _noise_like(text, generator))
    return content


def _noise_like(vectors: Tensor, generator: torch.Generator) -> Tensor:
    """Normal noise [N, W] whose rows are as long as those given."""
    noise = torch.randn(vectors.shape, generator=generator)
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    scaled: Tensor = F.normalize(noise, dim=1) * lengths
    return scaled
