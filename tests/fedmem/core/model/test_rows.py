"""Rows of tables are those that torch looks up, and so are their gradients, to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fedmem.core.model.rows import NO_PADDING, Rows, look_up

ITEMS, K = 6, 3


def draw(*shape: int) -> tuple[Tensor, Tensor]:
    """A table, and items of this shape with many of a kind and some padding."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(ITEMS + 1, K, generator=generator)
    return table.requires_grad_(), torch.randint(0, ITEMS + 1, shape, generator=generator)


@pytest.mark.parametrize("shape", [(4, 9), (1, ITEMS), (2, 3, 5)])
@pytest.mark.parametrize("padding", [NO_PADDING, 0])
@pytest.mark.parametrize("expanded", [False, True])
def test_rows_and_gradients_have_the_bits_of_torch(
    shape: tuple[int, ...], padding: int, expanded: bool
) -> None:
    table, items = draw(*shape)
    found = look_up(table, items, padding)
    expected = F.embedding(items, table, 0 if padding == 0 else None)
    assert torch.equal(found, expected)
    slope = torch.ones(()).expand(found.shape) if expanded else torch.randn(found.shape)
    for each in zip(
        torch.autograd.grad(found, table, slope),
        torch.autograd.grad(expected, table, slope),
        strict=True,
    ):
        assert torch.equal(*each)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float64])
def test_other_precisions_are_looked_up_alike(precision: torch.dtype) -> None:
    table, items = draw(4, 9)
    own = table.detach().to(precision).requires_grad_()
    found, expected = look_up(own, items, 0), F.embedding(items, own, 0)
    assert torch.equal(found, expected)
    slope = torch.randn(found.shape).to(precision)
    gradients = [torch.autograd.grad(x, own, slope)[0] for x in (found, expected)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("dims", [(0, 0), (1, 0), (None, 0), (0, None)])
def test_under_vmap_members_have_their_own(dims: tuple[int | None, int | None]) -> None:
    table, items = draw(2, 4, 9)
    tables = torch.stack([table.detach(), table.detach() * 2], dim=dims[0] or 0)
    given = tables if dims[0] is not None else table.detach()
    which = items if dims[1] is not None else items[0]
    given.requires_grad_()
    found = torch.vmap(lambda own, ids: look_up(own, ids, 0), in_dims=dims)(given, which)
    expected = torch.stack(
        [
            F.embedding(
                which[member] if dims[1] is not None else which,
                given.select(dims[0], member) if dims[0] is not None else given,
                0,
            )
            for member in range(2)
        ]
    )
    assert torch.equal(found, expected)
    slope = torch.randn(found.shape)
    gradients = [torch.autograd.grad(x, given, slope)[0] for x in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_consecutive_items_of_one_row_are_a_view() -> None:
    table, _ = draw(1)
    with torch.no_grad():
        found = Rows(torch.arange(2, 5)[None]).of(table)
    assert found.data_ptr() == table[2:].data_ptr()
    assert torch.equal(found[0], table[2:5])
