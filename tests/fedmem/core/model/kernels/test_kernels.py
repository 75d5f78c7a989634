"""The compiled sums over pairs, and their tensor forms for other devices, against formulas."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from fedmem.core.model.kernels.kept_moments import kept_moments
from fedmem.core.model.kernels.read_out_moments import TILE, _ReadOutMoments, read_out_moments
from fedmem.core.model.kernels.relu_dot import MANY_CANDIDATES, _ReluDot, relu_dot

X, Y, C, G, H, M = 2, 3, 4, 5, 2, 3
RELU_DOT = [(X, Y, G), (X, C, G), (X, Y, G)]
RELU_DOT_OF_MANY = [(X, Y, G), (X, MANY_CANDIDATES + 1, G), (X, Y, G)]
MOMENTS = [(X, H, C, Y, M), (X, H, C, Y, M), (X, H, Y, M), (X, H, Y, M, M)]


def plain_relu_dot(positions: Tensor, items: Tensor, directions: Tensor) -> tuple[Tensor, ...]:
    units = torch.relu(positions.unsqueeze(2) + items.unsqueeze(1))
    return (torch.einsum("xycg,xyg->xyc", units, directions),)


def plain_moments(
    attention: Tensor, along: Tensor, sums: Tensor, gram: Tensor
) -> tuple[Tensor, ...]:
    return (
        torch.einsum("xhcym,xhcym->xyc", attention, along),
        torch.einsum("xhcym,xhym->xyc", attention, sums),
        torch.einsum("xhcym,xhymn,xhcyn->xyc", attention, gram, attention),
    )


def compiled_relu_dot(*inputs: Tensor) -> tuple[Tensor, ...]:
    return (relu_dot(*inputs),)


Sums = Callable[..., tuple[Tensor, ...]]
CASES = [
    pytest.param(compiled_relu_dot, plain_relu_dot, RELU_DOT, id="relu_dot"),
    pytest.param(compiled_relu_dot, plain_relu_dot, RELU_DOT_OF_MANY, id="relu_dot of many"),
    pytest.param(read_out_moments, plain_moments, MOMENTS, id="read_out_moments"),
]


def draw(shapes: list[tuple[int, ...]], dtype: torch.dtype = torch.double) -> list[Tensor]:
    """Random inputs; a gram matrix is made symmetric, as inner products are."""
    torch.manual_seed(0)
    inputs = [torch.randn(shape, dtype=dtype) for shape in shapes]
    if shapes is MOMENTS:
        inputs[3] = inputs[3] + inputs[3].mT
    return inputs


def gradients(sums: Sums, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Of all results, each weighted by numbers of its own."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    results = sums(*inputs)
    torch.manual_seed(1)
    slopes = [torch.randn(x.shape, dtype=x.dtype) for x in results]
    return torch.autograd.grad(results, inputs, slopes)


@pytest.mark.parametrize(("compiled", "plain", "shapes"), CASES)
@pytest.mark.parametrize("dtype", [torch.double, torch.float])
def test_values_and_gradients_are_those_of_the_formula(
    compiled: Sums, plain: Sums, shapes: list[tuple[int, ...]], dtype: torch.dtype
) -> None:
    inputs = draw(shapes, dtype)
    torch.testing.assert_close(compiled(*inputs), plain(*inputs))
    torch.testing.assert_close(gradients(compiled, inputs), gradients(plain, inputs))


@pytest.mark.parametrize(
    ("compiled", "shapes"),
    [
        (compiled_relu_dot, RELU_DOT),
        (compiled_relu_dot, RELU_DOT_OF_MANY),
        (read_out_moments, MOMENTS),
    ],
)
def test_gradients_pass_gradcheck(compiled: Sums, shapes: list[tuple[int, ...]]) -> None:
    def of_products(*inputs: Tensor) -> tuple[Tensor, ...]:
        if shapes is MOMENTS:  # inner products stay symmetric while they are moved
            return compiled(*inputs[:3], inputs[3] + inputs[3].mT)
        return compiled(*inputs)

    assert torch.autograd.gradcheck(of_products, [x.requires_grad_() for x in draw(shapes)])


@pytest.mark.parametrize(("compiled", "plain", "shapes"), CASES)
def test_inputs_may_lie_in_memory_in_any_way(
    compiled: Sums, plain: Sums, shapes: list[tuple[int, ...]]
) -> None:
    inputs = draw(shapes)
    turned = [x.mT.contiguous().mT for x in inputs]
    expanded = [x[:1].expand_as(x) for x in inputs]
    assert not any(x.is_contiguous() for x in (*turned, *expanded))
    for given in (turned, expanded):
        torch.testing.assert_close(compiled(*given), plain(*given))
        torch.testing.assert_close(gradients(compiled, given), gradients(plain, given))


@pytest.mark.parametrize(("compiled", "plain", "shapes"), CASES)
def test_slopes_may_lie_in_memory_in_any_way(
    compiled: Sums, plain: Sums, shapes: list[tuple[int, ...]]
) -> None:
    def summed(sums: Sums) -> tuple[Tensor, ...]:  # the slope of a sum is one number, expanded
        inputs = [x.requires_grad_() for x in draw(shapes)]
        return torch.autograd.grad(sum(x.sum() for x in sums(*inputs)), inputs)

    torch.testing.assert_close(summed(compiled), summed(plain))


@pytest.mark.parametrize(("compiled", "plain", "shapes"), CASES)
@pytest.mark.parametrize("axis", [0, 1])
def test_under_vmap_a_stack_gives_what_its_members_give(
    compiled: Sums, plain: Sums, shapes: list[tuple[int, ...]], axis: int
) -> None:
    """As in `train_stacked`: vmap inside, gradients outside; the last is shared."""
    members = [draw(shapes), [1 - 2 * x for x in draw(shapes)]]
    *stacked, shared = (torch.stack(parts, axis) for parts in zip(*members, strict=True))
    shared = shared.select(axis, 0)
    dims = (*[axis] * len(stacked), None)

    def together(sums: Sums) -> Sums:
        return lambda *inputs: torch.vmap(sums, in_dims=dims)(*inputs)

    def one_by_one(*inputs: Tensor) -> tuple[Tensor, ...]:
        each = [plain(*(x.select(axis, i) for x in inputs[:-1]), inputs[-1]) for i in range(2)]
        return tuple(map(torch.stack, zip(*each, strict=True)))

    inputs = [*stacked, shared]
    torch.testing.assert_close(together(compiled)(*inputs), one_by_one(*inputs))
    torch.testing.assert_close(gradients(together(compiled), inputs), gradients(one_by_one, inputs))


@pytest.mark.parametrize("spread", [1.0, 1000.0])  # the latter's odds leave float32
@pytest.mark.parametrize("places", [[4], [5, 0, 3, 1, 6]])
def test_a_memory_read_where_its_rows_lie_is_that_of_the_formula(
    places: list[int], spread: float
) -> None:
    logits, along, values = draw([(H, 7, TILE + 40), (H, 7, TILE + 40), (H, len(places), G)])
    logits, along, values = (logits * spread).float(), along.float(), values.float()
    found = kept_moments(logits, along, np.array(places), values)
    own, v_u, v = (x.double() for x in (logits[:, places], along[:, places], values))
    of_pairs = (torch.softmax(own, 1).mT[None, :, :, None], v_u.mT[None, :, :, None])
    expected = plain_moments(*of_pairs, v.sum(2)[None, :, None], (v @ v.mT)[None, :, None])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other[0, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, MANY_CANDIDATES])
def test_a_unit_at_exactly_0_passes_nothing_on(count: int) -> None:
    positions, items = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[-1.0, 1.0]] * count])
    inputs = [positions, items.view(1, count, 2), torch.tensor([[[5.0, 7.0]]])]
    assert relu_dot(*inputs).tolist() == [[[21.0] * count]]
    slopes = torch.ones(1, 1, count)
    found = torch.autograd.grad(relu_dot(*(x.requires_grad_() for x in inputs)), inputs, slopes)
    expected = [[0.0, 7.0 * count], [0.0, 7.0] * count, [0.0, 3.0 * count]]
    assert [x.flatten().tolist() for x in found] == expected


def test_nothing_to_score_gives_nothing() -> None:
    assert relu_dot(*(torch.zeros(0, n, G) for n in (Y, C, Y))).shape == (0, Y, C)
    assert relu_dot(*(torch.zeros(X, n, G) for n in (Y, 0, Y))).shape == (X, Y, 0)


class Elsewhere(Tensor):
    """A tensor that says it lies on another device, so that the tensor forms are taken."""

    device = torch.device("meta")  # type: ignore[assignment]


def forms_elsewhere(function: type, inputs: list[Tensor], slopes: list[Tensor]) -> list[Tensor]:
    """Values and gradients of the tensor forms."""
    there, steep = ([x.as_subclass(Elsewhere) for x in given] for given in (inputs, slopes))
    values = function.forward(*there)  # type: ignore[attr-defined]
    by_input = function.backward(SimpleNamespace(saved_tensors=there), *steep)  # type: ignore[attr-defined]
    values = (values,) if isinstance(values, Tensor) else values
    return [x.as_subclass(Tensor) for x in (*values, *by_input)]


@pytest.mark.parametrize(
    ("function", "plain", "shapes"),
    [(_ReluDot, plain_relu_dot, RELU_DOT), (_ReadOutMoments, plain_moments, MOMENTS)],
)
def test_other_devices_compute_the_same(
    function: type, plain: Sums, shapes: list[tuple[int, ...]]
) -> None:
    inputs = [x.requires_grad_() for x in draw(shapes)]
    values = plain(*inputs)
    slopes = [torch.randn_like(x) for x in values]
    expected = [*values, *torch.autograd.grad(values, inputs, slopes)]
    found = forms_elsewhere(function, [x.detach() for x in inputs], slopes)
    torch.testing.assert_close(found, [x.detach() for x in expected])
