"""Read-outs of distinct entries against those of all entries, each in its place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fedmem.core.model.kernels.distinct_entries import (
    NOWHERE,
    distinct_entries,
    distinct_moments,
)
from fedmem.core.model.kernels.read_out_moments import Moments, read_out_moments

X, H, Y, M, C, K, I = 3, 2, 4, 6, 5, 3, 9  # noqa: E741 - K channels a head, I items


def memories() -> Tensor:
    """[X, Y, M] with items that repeat; one memory is empty, one row has a single item."""
    items = torch.randint(1, I + 1, (X, Y, M), generator=torch.Generator().manual_seed(0))
    items[0, 1] = 0
    items[1, 2, 2:] = 0
    items[2] = 7
    return items


def draw(held: Tensor, dtype: torch.dtype, sharpness: float) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(X, H, held.shape[1], last) for last in (C, C, K)]
    logits, along, values = (torch.randn(s, dtype=dtype, generator=generator) for s in shapes)
    return [x.requires_grad_() for x in (logits * sharpness, along, values)]


def from_all_entries(logits: Tensor, along: Tensor, values: Tensor, places: Tensor) -> Moments:
    """`distinct_moments` with everything put where the entries are."""
    there = places != NOWHERE
    rows = torch.arange(X).view(X, 1, 1), places.clamp(min=0)

    def spread(x: Tensor) -> Tensor:  # [X, H, N, ...] → [X, Y, M, H, ...]
        return x.transpose(1, 2)[rows]

    never = torch.zeros_like(places, dtype=logits.dtype).masked_fill(~there, -1e9)
    attention = torch.softmax(spread(logits) + never[..., None, None], dim=2)
    attention = attention * there.any(2)[:, :, None, None, None]
    by_pair = (0, 3, 4, 1, 2)  # [X, H, C, Y, M]
    apart = spread(values).permute(0, 3, 1, 2, 4)  # [X, H, Y, M, K]
    sums, gram = apart.sum(-1), apart @ apart.mT
    return read_out_moments(attention.permute(by_pair), spread(along).permute(by_pair), sums, gram)


def test_each_entry_is_the_item_at_its_place() -> None:
    items = memories()
    held, places = distinct_entries(items)
    found = held.gather(1, places.clamp(min=0).flatten(1)).view_as(items)
    assert torch.equal(torch.where(places == NOWHERE, 0, found), items)
    assert torch.equal(places == NOWHERE, items == 0)
    for own, all_of_row in zip(held, items, strict=True):
        assert own[own > 0].tolist() == list(dict.fromkeys(all_of_row[all_of_row > 0].tolist()))
    assert held.shape[1] == max(len(row[row > 0].unique()) for row in items)


def test_memories_without_entries_have_a_place_that_nobody_looks_up() -> None:
    held, places = distinct_entries(torch.zeros(X, Y, M, dtype=torch.long))
    assert held.tolist() == [[0]] * X
    assert (places == NOWHERE).all()
    for moments in distinct_moments(*draw(held, torch.double, 1.0), places):
        assert not moments.any()


@pytest.mark.parametrize("dtype", [torch.double, torch.float])
@pytest.mark.parametrize("sharpness", [1.0, 80.0])  # 80: a position's odds are 0 beside the row's
def test_values_and_gradients_are_those_from_all_entries(
    dtype: torch.dtype, sharpness: float
) -> None:
    held, places = distinct_entries(memories())
    inputs = draw(held, dtype, sharpness)
    found, expected = distinct_moments(*inputs, places), from_all_entries(*inputs, places)
    torch.testing.assert_close(found, expected)
    slopes = [torch.randn_like(x) for x in found]
    within = 1e-12 if dtype == torch.double else 1e-4  # where one entry has it all, slopes cancel
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs, slopes),
        torch.autograd.grad(expected, inputs, slopes),
        rtol=0,
        atol=within,
    )


def test_gradients_pass_gradcheck() -> None:
    held, places = distinct_entries(memories())
    inputs = draw(held, torch.double, 1.0)
    assert torch.autograd.gradcheck(lambda *given: distinct_moments(*given, places), inputs)


def test_under_vmap_a_stack_gives_what_its_members_give() -> None:
    """Each member has memories of its own, and as many distinct entries as they happen to hold."""
    tables = torch.randn(2, 3, I + 1, C, dtype=torch.double)
    items = torch.stack([memories(), memories().roll(1, 0)])
    items[1, :, 0] = 0

    def read(table: Tensor, own: Tensor) -> Moments:
        held, places = distinct_entries(own)
        logits, along, values = (table[k][held].unsqueeze(1) for k in range(3))  # [X, 1, N, C]
        return distinct_moments(logits, along, values, places)

    found = torch.vmap(read)(tables, items)
    expected = [read(*each) for each in zip(tables, items, strict=True)]
    for place, moments in enumerate(found):
        torch.testing.assert_close(moments, torch.stack([each[place] for each in expected]))
