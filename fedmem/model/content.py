"""From frozen content vectors to the embedding z_ti that stands beside the item's ID."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedmem.settings import ModelSettings


def zero_projector(width: int, dim: int) -> nn.Linear:
    """A projector width → dim that starts at zero, so that content first adds exactly nothing."""
    projector = nn.Linear(width, dim)
    nn.init.zeros_(projector.weight)
    nn.init.zeros_(projector.bias)
    return projector


class AlignGating(nn.Module):
    """How much of an item's picture and of its text counts at a position.

    softmax(Linear(ReLU(Linear([h_t; P_v v_i; P_t t_i])))) over the modalities. The first layer is
    linear in each of its three inputs, so it is computed once a position and once an item, and only
    the sum of the parts is formed for every pair.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * settings.dim, settings.gating_hidden)
        self.weights = nn.Linear(settings.gating_hidden, 2)

    def position_part(self, hidden: Tensor) -> Tensor:
        """[..., D] hidden states → [..., G]."""
        return F.linear(hidden, self._slice(0), self.hidden.bias)

    def item_part(self, visual: Tensor, text: Tensor) -> Tensor:
        """Projected vectors [..., D] and [..., D] → [..., G]."""
        return F.linear(visual, self._slice(1)) + F.linear(text, self._slice(2))

    def forward(
        self, position_part: Tensor, item_part: Tensor, present: Tensor, keep: Tensor | None
    ) -> Tensor:
        """Modality weights [B, P, C, 2]: they sum to 1 over the modalities present, or to 0.

        Args:
            position_part: [B, P, G].
            item_part: [B or 1, P or 1, C, G].
            present: [B or 1, P or 1, C, 2], whether the item has a picture and a text.
            keep: [B, P, G] dropout's factors, shared by all candidates of a position.
        """
        units = F.relu(position_part.unsqueeze(2) + item_part)  # [B, P, C, G]
        if keep is not None:
            units = units * keep.unsqueeze(2)
        logits = self.weights(units).masked_fill(~present, -torch.inf)  # [B, P, C, 2]
        # The softmax of nothing at all is NaN: an item without content gets weights of 0.
        return torch.softmax(logits, dim=-1).masked_fill(~present, 0.0)

    def _slice(self, part: int) -> Tensor:
        dim = self.hidden.in_features // 3
        return self.hidden.weight[:, part * dim : (part + 1) * dim]
