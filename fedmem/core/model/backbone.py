"""SASRec: one causal pass gives the hidden state of every position.

W.-C. Kang, J. McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, section III; with
the normalisation before each sub-layer and a final LayerNorm.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedmem.core.model.dropout import NO_DROPOUT, Dropout
from fedmem.core.model.linear import Linear, linear
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
        return self._feed(x, mixed, dropout)

    def at(self, x: Tensor, ends: Tensor) -> Tensor:
        """States [B, D] at one position of each row [B, T, D], its end [B]; nothing is dropped."""
        rows, length, dim = x.shape
        normed, of_end = self.attention_norm(x), (torch.arange(rows), ends)
        weight, bias = self.qkv.weight, self.qkv.bias
        q = linear(normed[of_end], weight[:dim], bias[:dim]).view(rows, self.heads, 1, -1)
        kv = linear(normed, weight[dim:], bias[dim:]).view(rows, length, 2, self.heads, -1)
        k, v = kv.permute(2, 0, 3, 1, 4)  # [B, H, T, D/H]
        seen = torch.arange(length, device=x.device) <= ends[:, None]  # [B, T]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None])
        return self._feed(x[of_end], mixed.reshape(rows, dim), NO_DROPOUT)

    def _attend(self, qkv: Tensor) -> Tensor:
        """Causal attention within each row: queries, keys and values [B, T, 3D] → [B, T, D]."""
        rows, length, _ = qkv.shape
        q, k, v = qkv.view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # [B, H, T, D/H]
        return mixed.transpose(1, 2).reshape(rows, length, -1)

    def _feed(self, x: Tensor, mixed: Tensor, dropout: Dropout) -> Tensor:
        """States [..., D] from what attention mixed [..., D] for them."""
        x = x + dropout(self.out(mixed))
        hidden = dropout(F.relu(self.expand(self.feedforward_norm(x))))  # [..., F]
        return x + dropout(self.contract(hidden))


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
        x = dropout(self._inputs(items, positions))
        for block in self.blocks:
            x = block(x, dropout, packing)
        x = self.norm(x)
        return x if packing is None else packing.spread(x)

    def at(self, items: Tensor, ends: Tensor) -> Tensor:
        """Hidden states [B, D] at one position of each row [B, T], its end [B], without dropout.

        Of what is before, the last block makes keys and values alone.
        """
        x = self._inputs(items, self.pos_emb.weight[: items.shape[1]])
        for block in self.blocks[:-1]:
            x = block(x, NO_DROPOUT)
        last: Block = self.blocks[-1]  # type: ignore[assignment]
        states: Tensor = self.norm(last.at(x, ends))
        return states

    def _inputs(self, items: Tensor, positions: Tensor) -> Tensor:
        """[..., D] of the first block, from items [...] and the vectors of their positions."""
        inputs: Tensor = self.item_emb(items) * self.scale + positions
        return inputs
