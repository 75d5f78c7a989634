"""Parameters as other programs leave them: SASRec's PyTorch port, and the earlier architecture."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Parameters = dict[str, Tensor]


class PortedBlock(nn.Module):
    """A block of the port, normalised before each sub-layer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention_layernorms = nn.LayerNorm(dim, eps=1e-8)
        self.attention_layers = nn.MultiheadAttention(dim, heads)
        self.forward_layernorms = nn.LayerNorm(dim, eps=1e-8)
        self.forward_layers = nn.ModuleDict(
            {"conv1": nn.Conv1d(dim, dim, 1), "conv2": nn.Conv1d(dim, dim, 1)}
        )

    def forward(self, x: Tensor) -> Tensor:
        """[T, B, D] to the same."""
        unseen = ~torch.ones(len(x), len(x)).tril().bool()
        normed = self.attention_layernorms(x)
        x = x + self.attention_layers(normed, normed, normed, attn_mask=unseen)[0]
        y = self.forward_layernorms(x).permute(1, 2, 0)  # [B, D, T]
        y = self.forward_layers["conv2"](F.relu(self.forward_layers["conv1"](y)))
        return x + y.permute(2, 0, 1)


class PortedSASRec(nn.Module):
    """The port: histories end at the right, padding stands on the left and is attended to."""

    def __init__(self, items: int, dim: int, blocks: int, heads: int, length: int) -> None:
        super().__init__()
        self.item_emb = nn.Embedding(items + 1, dim, padding_idx=0)
        self.pos_emb = nn.Embedding(length + 1, dim, padding_idx=0)
        self.blocks = nn.ModuleList(PortedBlock(dim, heads) for _ in range(blocks))
        self.last_layernorm = nn.LayerNorm(dim, eps=1e-8)

    def forward(self, items: Tensor) -> Tensor:
        """[B, T, D] of item rows [B, T]."""
        places = torch.arange(1, items.shape[1] + 1) * (items > 0)
        x = self.item_emb(items) * math.sqrt(self.item_emb.embedding_dim) + self.pos_emb(places)
        x = x.transpose(0, 1)
        for block in self.blocks:
            x = block(x)
        return self.last_layernorm(x).transpose(0, 1)

    def saved(self) -> Parameters:
        """Its parameters under the port's names, which put the block's number after the part."""
        found = {}
        for name, value in self.state_dict().items():
            parts = name.split(".")
            if parts[0] == "blocks":
                parts = [parts[2], parts[1], *parts[3:]]
            found[".".join(parts)] = value.clone()
        return found


def earlier_architecture(items: int = 30, dim: int = 128) -> Parameters:
    """A model whose experts keep the width of their features."""
    torch.manual_seed(0)
    parameters = {f"sasrec.{k}": v for k, v in PortedSASRec(items, dim, 2, 2, 50).saved().items()}
    for expert, width in (("visual_expert", 512), ("semantic_expert", 384)):
        for part in ("query_proj", "key_proj", "value_proj"):
            parameters[f"{expert}.{part}.weight"] = torch.randn(width, width)
        parameters[f"{expert}.layer_norm.weight"] = torch.ones(width)
        parameters[f"{expert}.layer_norm.bias"] = torch.zeros(width)
    parameters["router.weight"] = torch.randn(2, dim)
    return parameters
