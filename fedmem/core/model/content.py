"""Frozen content vectors, and the embedding z_ti of them that stands beside the item's ID."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmem.core.model.kernels.relu_dot import relu_dot
from fedmem.core.model.linear import Linear, linear
from fedmem.core.settings import ModelSettings


@dataclass(frozen=True)
class Content:
    """Frozen content of all items; row 0 is padding, a row of zeros is a missing modality."""

    visual: Tensor
    """[I + 1, V]"""
    text: Tensor
    """[I + 1, S]"""

    @property
    def present(self) -> Tensor:
        """[I + 1, 2]: whether the item has a picture, and a text."""
        return torch.stack([self.visual.any(1), self.text.any(1)], dim=1)


def zero_projector(width: int, dim: int) -> Linear:
    """A projector width → dim that starts at zero, so that content first adds exactly nothing."""
    projector = Linear(width, dim)
    nn.init.zeros_(projector.weight)
    nn.init.zeros_(projector.bias)
    return projector


def leanings(present: Tensor) -> Tensor:
    """What is added to the gating's logit: 0 for items [I] with both modalities, else ±∞.

    An item has a picture, and a text, where these are `present` [I, 2].
    """
    picture, text = present.unbind(1)
    lean = torch.zeros(len(present), device=present.device)
    return lean.masked_fill(~text, torch.inf).masked_fill(~picture, -torch.inf)


class AlignGating(nn.Module):
    """How much of an item's picture and of its text counts at a position.

    softmax(Linear(ReLU(Linear([h_t; P_v v_i; P_t t_i])))) over the two modalities. The first layer
    is linear in each of its three inputs, so it is computed once a position and once an item; and a
    softmax of two is a sigmoid of their difference, so that only one number a pair is left.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.hidden = Linear(3 * settings.dim, settings.gating_hidden)
        self.weights = Linear(settings.gating_hidden, 2)

    def position_part(self, hidden: Tensor) -> Tensor:
        """[..., D] hidden states → [..., G]."""
        return linear(hidden, self._slice(0), self.hidden.bias)

    def item_part(self, visual: Tensor, text: Tensor) -> Tensor:
        """Projected vectors [..., D] and [..., D] → [..., G]."""
        return linear(visual, self._slice(1)) + linear(text, self._slice(2))

    def forward(
        self, position_part: Tensor, item_part: Tensor, lean: Tensor, keep: Tensor | None
    ) -> Tensor:
        """Weight [X, Y, C] of the picture, in [0, 1]; the text has the rest.

        Args:
            position_part: [X, Y, G].
            item_part: [X, C, G].
            lean: [X, C] from `leanings`: a missing modality gets exactly 0.
            keep: [X, Y, G] dropout's factors, shared by all candidates of a position.
        """
        picture, text = self.weights.weight
        directions = (picture - text).expand_as(position_part)  # [X, Y, G]
        if keep is not None:
            directions = directions * keep
        logits = relu_dot(position_part, item_part, directions)  # [X, Y, C]
        bias_picture, bias_text = self.weights.bias
        return torch.sigmoid(logits + (bias_picture - bias_text) + lean.unsqueeze(1))

    def _slice(self, part: int) -> Tensor:
        dim = self.hidden.in_features // 3
        return self.hidden.weight[:, part * dim : (part + 1) * dim]
