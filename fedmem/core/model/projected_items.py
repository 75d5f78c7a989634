"""Item embeddings that are a trained projection of content, with nothing of an item's own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedmem.core.model.content import Content
from fedmem.core.model.item_start import ContentMap
from fedmem.core.settings import ModelSettings


class ProjectedItems(nn.Module):
    """What stands in the place of a table of item embeddings, and is read as one.

    A row is c·P, c [W] the item's pictures and texts in all their principal components, whitened
    as those that a table can start from are, and P [W, D] trained. An item without content has a
    row of zeros.
    """

    def __init__(self, content: Content, settings: ModelSettings) -> None:
        super().__init__()
        width = content.visual.shape[1] + content.text.shape[1]
        rows = ContentMap.fit(content, width, settings.item_whitening).rows(content)
        spanned = F.pad(rows, (0, width - rows.shape[1]))
        self.content = nn.Buffer(spanned, persistent=False)  # [I + 1, W]
        self.projection = nn.Parameter(torch.empty(width, settings.dim))
        nn.init.normal_(self.projection, std=0.02)

    @property
    def weight(self) -> Tensor:
        """[I + 1, D] the table."""
        return self.content @ self.projection

    def forward(self, items: Tensor) -> Tensor:
        """Rows [..., D] of items [...]."""
        return F.embedding(items, self.weight)
