"""A SASRec in bare PyTorch, with torch's own dropout, and the loss that every peer trains it on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Pre-norm causal self-attention and a feed-forward network."""

    def __init__(self, dim: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, feedforward)
        self.contract = nn.Linear(feedforward, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Rows [B, T, D] to rows of the same shape."""
        batch, length, dim = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [B, H, T, D/H]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # [B, H, T, D/H]
        x = x + F.dropout(self.out(mixed.transpose(1, 2).reshape(batch, length, dim)), self.dropout)
        hidden = F.dropout(F.relu(self.expand(self.feedforward_norm(x))), self.dropout)  # [B, T, F]
        return x + F.dropout(self.contract(hidden), self.dropout)


class SASRec(nn.Module):
    """The backbone, with the parameter names of fedmem's so that its parameters load."""

    def __init__(
        self,
        num_items: int,
        max_length: int,
        dim: int,
        heads: int,
        blocks: int,
        feedforward: int,
        dropout: float,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        self.dim = dim
        self.reduced = precision == "bfloat16"
        self.dropout = dropout
        self.item_emb = nn.Embedding(num_items + 1, dim, padding_idx=0)
        self.pos_emb = nn.Embedding(max_length, dim)
        own = (dim, heads, feedforward, dropout)
        self.blocks = nn.Sequential(*(Block(*own) for _ in range(blocks)))
        self.norm = nn.LayerNorm(dim)

    def forward(self, items: Tensor) -> Tensor:
        """Hidden states [B, T, D] of item rows [B, T]."""
        x = self.item_emb(items) * self.dim**0.5 + self.pos_emb.weight[: items.shape[1]]
        return self.norm(self.blocks(F.dropout(x, self.dropout)))  # type: ignore[no-any-return]

    def cross_entropy(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Over all items, summed over the targets [B, T] that are not padding."""
        real = targets > 0  # [B, T]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.reduced):
            logits = self(inputs)[real] @ self.item_emb.weight[1:].T  # [N, I]
            return F.cross_entropy(logits, targets[real] - 1, reduction="sum")


def mean_loss(model: SASRec, inputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    """(mean loss a target, targets) of one user's windows."""
    count = int(torch.count_nonzero(targets))
    return model.cross_entropy(inputs, targets) / count, count
