"""SASRec: one causal pass gives the hidden state of every position.

W.-C. Kang, J. McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, section III; with
the normalisation before each sub-layer and a final LayerNorm.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedmem.core.model.dropout import Dropout
from fedmem.core.model.linear import Linear
from fedmem.core.model.packing import Packing
from fedmem.core.model.projected_items import ProjectedItems
from fedmem.core.model.rows import look_up
from fedmem.core.settings import ModelSettings


class Block(nn.Module):
    """Pre-norm causal self-attention and a feed-forward network, each with a residual."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        dim = settings.dim
        self.heads = settings.heads
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = Linear(dim, 3 * dim)
        self.out = Linear(dim, dim)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.expand = Linear(dim, settings.feedforward)
        self.contract = Linear(settings.feedforward, dim)

    def forward(self, x: Tensor, dropout: Dropout, packing: Packing | None = None) -> Tensor:
        """Rows [B, T, D], or packed [N, D], to states of the same shape."""
        qkv = self.qkv(self.attention_norm(x))
        mixed = self._attend(qkv) if packing is None else packing.by_rows(self._attend, qkv)
        x = x + dropout(self.out(mixed))
        hidden = dropout(F.relu(self.expand(self.feedforward_norm(x))))  # [..., F]
        return x + dropout(self.contract(hidden))

    def _attend(self, qkv: Tensor) -> Tensor:
        """Causal attention within each row: queries, keys and values [B, T, 3D] → [B, T, D]."""
        rows, length, _ = qkv.shape
        q, k, v = qkv.view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # [B, H, T, D/H]
        return mixed.transpose(1, 2).reshape(rows, length, -1)


class SASRec(nn.Module):
    """The backbone of all stages.

    Rows are padded on the right with item 0: a causal pass never looks there, so padding changes
    nothing at the positions before it.
    """

    def __init__(self, settings: ModelSettings, num_items: int) -> None:
        super().__init__()
        self.item_emb: nn.Embedding | ProjectedItems = nn.Embedding(
            num_items + 1, settings.dim, padding_idx=0
        )
        self.pos_emb = nn.Embedding(settings.max_length, settings.dim)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.blocks))
        self.norm = nn.LayerNorm(settings.dim)
        self._settings = settings
        self.scale = math.sqrt(settings.dim)
        """Brings item embeddings, small because they are also the output layer, up to the input's
        size (Vaswani et al. 2017, section 3.4)."""
        for module in self.modules():
            if isinstance(module, Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, Linear):
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.item_emb.weight[0].zero_()

    @property
    def dropout_widths(self) -> list[int]:
        """Channels of the tensors that a forward pass drops from, in order."""
        dim, feedforward = self._settings.dim, self._settings.feedforward
        return [dim] + [dim, feedforward, dim] * self._settings.blocks

    def forward(self, items: Tensor, dropout: Dropout, packing: Packing | None = None) -> Tensor:
        """Hidden states [B, T, D] of the item rows [B, T] (0 = padding on the right).

        With their packing they are computed packed, and dropout is asked for [N, C]; the states of
        padding are 0.
        """
        positions = self.pos_emb.weight[: items.shape[1]]  # [T, D]
        if packing is not None:
            positions = look_up(positions, packing.places % items.shape[1])  # [N, D]
            items = items.flatten()[packing.places]  # [N]
        x = dropout(self.item_emb(items) * self.scale + positions)
        for block in self.blocks:
            x = block(x, dropout, packing)
        x = self.norm(x)
        return x if packing is None else packing.spread(x)
