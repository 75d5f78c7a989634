"""Linear layers multiply in the precision of the context, whatever the number of rows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fedmem.core.machine.device import CPU
from fedmem.core.machine.precision import ROWS_AT_ONCE, computing_in
from fedmem.core.model.linear import Linear, linear

SHAPES = pytest.mark.parametrize("shape", [(5,), (ROWS_AT_ONCE,), (3, 7), (0,)], ids=str)


def draw(*shape: int) -> Tensor:
    """Numbers that bfloat16 has, of which products of a few are exact in float32."""
    torch.manual_seed(0)
    return torch.randint(-8, 9, shape).float().requires_grad_()


@SHAPES
def test_in_reduced_precision_rows_give_what_each_gives(shape: tuple[int, ...]) -> None:
    x, weight, bias = draw(*shape, 4), draw(6, 4), draw(6)
    with computing_in("bfloat16", CPU):
        found = linear(x, weight, bias)
    expected = F.linear(x, weight, bias)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=2.0**-8, atol=0)
    slope = draw(*shape, 6).detach()
    for each in zip(
        torch.autograd.grad(found, (x, weight, bias), slope),
        torch.autograd.grad(expected, (x, weight, bias), slope),
        strict=True,
    ):
        torch.testing.assert_close(*each, rtol=2.0**-7, atol=1e-6)


def test_a_layer_is_torchs_in_full_precision() -> None:
    torch.manual_seed(0)
    layer, own = Linear(4, 6), torch.nn.Linear(4, 6)
    own.load_state_dict(layer.state_dict())
    x = torch.randn(5, 4)
    assert torch.equal(layer(x), own(x))
    with computing_in("bfloat16", CPU):
        assert not torch.equal(layer(x), own(x))


def test_without_a_bias() -> None:
    x, weight = draw(5, 4), draw(6, 4)
    with computing_in("bfloat16", CPU):
        torch.testing.assert_close(linear(x, weight), F.linear(x, weight), rtol=2.0**-8, atol=0)
