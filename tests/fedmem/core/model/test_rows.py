"""Rows of tables are those that torch looks up, and so are their gradients, to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fedmem.core.model.rows import NO_PADDING, Rows, look_up

ITEMS, K = 6, 19


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


def multiplied(states: Tensor, table: Tensor, items: Tensor, padding: int) -> Tensor:
    """What `Rows.products` gives, by torch alone."""
    rows = F.embedding(items, table, 0 if padding == 0 else None)
    if states.shape[1] == items.shape[1] == 1:
        return (states * rows).sum(-1, keepdim=True)
    return states @ rows.mT


@pytest.mark.parametrize("shape", [(4, 5, 9), (600, 1, 1), (3, 1, 2), (0, 1, 1)])
@pytest.mark.parametrize("padding", [NO_PADDING, 0])
def test_products_and_their_gradients_are_those_of_torch(
    shape: tuple[int, int, int], padding: int
) -> None:
    rows, length, candidates = shape
    table, items = draw(rows, candidates)
    states = torch.randn(rows, length, K, requires_grad=True)
    found = Rows(items).products(states, table, padding)
    expected = multiplied(states, table, items, padding)
    if length == candidates == 1:  # a compiled pass adds up in another order
        torch.testing.assert_close(found, expected)
    else:
        assert torch.equal(found, expected)
    slope = torch.randn(found.shape)
    by_table, by_states = zip(
        torch.autograd.grad(found, (table, states), slope),
        torch.autograd.grad(expected, (table, states), slope),
        strict=True,
    )
    assert torch.equal(*by_states)
    if length == candidates == 1:
        assert torch.equal(*by_table)
    else:  # a transposed product: of some widths other bits
        torch.testing.assert_close(*by_table)


@pytest.mark.parametrize("of_table", [True, False])
@pytest.mark.parametrize("of_states", [True, False])
def test_products_of_states_or_tables_that_stay_have_the_other_gradient(
    of_table: bool, of_states: bool
) -> None:
    table, items = draw(4, 9)
    table = table.detach().requires_grad_(of_table)
    states = torch.randn(4, 5, K, requires_grad=of_states)
    found = Rows(items).products(states, table)
    assert found.requires_grad == (of_table or of_states)
    if found.requires_grad:
        found.sum().backward()
    assert (table.grad is not None) == of_table
    assert (states.grad is not None) == of_states


@pytest.mark.parametrize("length", [5, 1])
@pytest.mark.parametrize("dims", [(0, 0, 1), (None, 0, 0), (1, None, 0), (0, 0, None)])
def test_products_under_vmap_are_those_of_each_member(
    dims: tuple[int | None, int | None, int | None], length: int
) -> None:
    table, _ = draw(1)
    items = torch.randint(0, ITEMS + 1, (2, 4, length))
    members = (torch.stack([table.detach(), table.detach() * 2]), items, torch.randn(2, 4, 1, K))
    given = [
        x[0] if dim is None else x.movedim(0, dim) for x, dim in zip(members, dims, strict=True)
    ]
    given[0], given[2] = (x.detach().requires_grad_() for x in (given[0], given[2]))
    found = torch.vmap(lambda t, i, s: Rows(i).products(s, t, 0), in_dims=dims)(*given)
    own = [
        [x if dim is None else x.select(dim, member) for x, dim in zip(given, dims, strict=True)]
        for member in range(2)
    ]
    expected = torch.stack([multiplied(states, t, ids, 0) for t, ids, states in own])
    torch.testing.assert_close(found, expected)
    slope = torch.randn(found.shape)
    for each in zip(
        torch.autograd.grad(found, (given[0], given[2]), slope),
        torch.autograd.grad(expected, (given[0], given[2]), slope),
        strict=True,
    ):
        torch.testing.assert_close(*each)


def test_products_in_reduced_precision_are_those_of_torch() -> None:
    table, items = draw(4, 9)
    states = torch.randn(4, 5, K)
    with torch.autocast("cpu", torch.bfloat16):
        found = Rows(items).products(states, table)
        expected = multiplied(states, table, items, NO_PADDING)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)
