"""Linear layers whose products are made in `client.precision`."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fedmem.core.machine.precision import factor, is_reduced, rows_as_factor


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x·Wᵀ + b [..., C'] of x [..., C], W [C', C] and b [C']."""
    if x.device.type != "cpu" or not is_reduced(x.device):
        return F.linear(x, weight, bias)
    rows = x.flatten(0, -2)  # [N, C]
    bias = None if bias is None else factor(bias)
    made = F.linear(rows_as_factor(rows), factor(weight), bias)[: len(rows)]
    return made.float().view(*x.shape[:-1], len(weight))


class Linear(nn.Linear):
    """`linear` as a layer, with torch's names and start."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] → [..., C']."""
        return linear(x, self.weight, self.bias)
