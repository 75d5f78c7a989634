"""Losses as pure functions, one value a sample, so that any grouping of samples adds up."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

ALIGNMENT_SOFTNESS = 1e-2
"""Added to |z|² in the cosine: projectors start at zero, where the cosine has no gradient."""


def cross_entropy_over_items(hidden: Tensor, item_emb: Tensor, targets: Tensor) -> Tensor:
    """Softmax cross-entropy over all items but the padding.

    Args:
        hidden: [N, D]
        item_emb: [I + 1, D], row 0 = padding
        targets: [N] item ids, at least 1

    Returns:
        [N]
    """
    return F.cross_entropy(hidden @ item_emb[1:].T, targets - 1, reduction="none")


def cross_entropy_over_candidates(positive: Tensor, negatives: Tensor) -> Tensor:
    """Softmax cross-entropy of the positive [..., 1] beside sampled negatives [..., C]: [...]."""
    scores = torch.cat([positive, negatives], dim=-1)
    return torch.logsumexp(scores, dim=-1) - positive[..., 0]


def misalignment(content: Tensor, item_emb: Tensor) -> Tensor:
    """1 − cos(z, e) [...] of content and ID embeddings [..., D]."""
    length = (content.square().sum(-1) + ALIGNMENT_SOFTNESS).sqrt() * item_emb.norm(dim=-1)
    cosine: Tensor = (content * item_emb).sum(-1) / length.clamp(min=1e-8)
    return 1.0 - cosine


def imbalance(usage: Tensor) -> Tensor:
    """Σ_k (usage_k − 1/E)² of mean router weights [..., E]."""
    return (usage - 1.0 / usage.shape[-1]).square().sum(-1)
