"""The experts against a naive loop; empty and masked memories; the three forms of candidates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fedmem.model.experts import SHARPNESS, MemoryExpert, Router

B, P, C, M, D, I = 2, 3, 4, 5, 8, 30  # noqa: E741 - as in the shapes


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def draw_items(*shape: int, seed: int = 2) -> Tensor:
    return torch.randint(1, I + 1, shape, generator=torch.Generator().manual_seed(seed))


QUERIES, ENTRIES = draw(I + 1, D), draw(I + 1, D, seed=5)
ITEMS = draw_items(B, P, M)
MASK = torch.ones(B, P, M, dtype=torch.bool)


def expert(heads: int = 2) -> MemoryExpert:
    module = MemoryExpert(D, heads).double()
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters(), start=10):
            parameter.copy_(draw(*parameter.shape, seed=seed) * 0.5)
    return module


def read(module: MemoryExpert, candidates: Tensor, items: Tensor, mask: Tensor) -> Tensor:
    return module(QUERIES, ENTRIES, candidates, items, mask)  # type: ignore[no-any-return]


def brought_to_length(row: Tensor) -> Tensor:
    return row / row.square().sum().sqrt() * (SHARPNESS * D**0.5) ** 0.5


def attend(module: MemoryExpert, candidate: Tensor, entries: Tensor) -> Tensor:
    """LN(attention) of one candidate over the entries of one memory."""
    held = torch.stack([brought_to_length(ENTRIES[entry]) for entry in entries])
    q, k, v = (
        module.query(brought_to_length(QUERIES[candidate])),
        module.key(held),
        module.value(held),
    )
    size = D // module.heads
    out = torch.zeros(D, dtype=torch.double)
    for head in range(module.heads):
        part = slice(head * size, (head + 1) * size)
        weights = torch.softmax(k[:, part] @ q[part] / size**0.5, dim=0)
        for weight, value in zip(weights, v, strict=True):
            out[part] += weight * value[part]
    return module.norm(out)  # type: ignore[no-any-return]


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_equals_a_naive_loop(heads: int) -> None:
    module, candidates, mask = expert(heads), draw_items(B, P, C), MASK.clone()
    mask[0, :, 3:] = False
    found = read(module, candidates, ITEMS, mask)
    assert found.shape == (B, P, C, D)
    for b in range(B):
        for p in range(P):
            for c in range(C):
                expected = attend(module, candidates[b, p, c], ITEMS[b, p][mask[b, p]])
                assert torch.allclose(found[b, p, c], expected, atol=1e-12)


def test_the_three_forms_of_candidates_agree() -> None:
    shared = draw_items(C)
    module = expert()
    by_all, by_row, by_none = (
        read(module, candidates, ITEMS, MASK)
        for candidates in (shared, shared.expand(B, C), shared.expand(B, P, C))
    )
    assert torch.allclose(by_all, by_row, atol=1e-12)
    assert torch.allclose(by_all, by_none, atol=1e-12)


def test_candidates_of_a_row_agree_with_candidates_of_a_position() -> None:
    of_rows = draw_items(B, C)
    module = expert()
    found = read(module, of_rows, ITEMS, MASK)
    everywhere = of_rows[:, None].expand(B, P, C)
    assert torch.allclose(found, read(module, everywhere, ITEMS, MASK), atol=1e-12)


def test_an_empty_memory_adds_exactly_nothing() -> None:
    mask = MASK.clone()
    mask[1, 2] = False
    found = read(expert(), draw_items(C), ITEMS * mask, mask)
    assert not found[1, 2].any()
    assert found[1, 1].any(-1).all()


@pytest.mark.parametrize("empty", [(1, 2), (slice(None), slice(None))])
def test_an_empty_memory_leaves_all_gradients_finite(empty: tuple[int, int]) -> None:
    mask = MASK.clone()
    mask[empty] = False
    module = expert()
    read(module, draw_items(C), ITEMS * mask, mask).square().sum().backward()
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_masked_entries_do_not_matter() -> None:
    mask = MASK.clone()
    mask[:, :, 3:] = False
    other = ITEMS.clone()
    other[:, :, 3:] = 0
    assert not torch.equal(ITEMS, other)
    module, candidates = expert(), draw_items(C)
    found = read(module, candidates, ITEMS, mask)
    assert torch.equal(found, read(module, candidates, other, mask))
    assert not torch.allclose(found, read(module, candidates, ITEMS, MASK))


def test_content_that_is_still_all_zeros_leaves_all_gradients_finite() -> None:
    module, tables = expert(), torch.zeros(I + 1, D, dtype=torch.double, requires_grad=True)
    module(tables, tables, draw_items(C), ITEMS, MASK).square().sum().backward()
    for tensor in (tables, *module.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_the_order_of_entries_does_not_matter() -> None:
    order = torch.tensor([3, 0, 4, 2, 1])
    mask = MASK.clone()
    mask[:, :, 4] = False
    module, candidates = expert(), draw_items(C)
    found = read(module, candidates, ITEMS[:, :, order], mask[:, :, order])
    assert torch.allclose(found, read(module, candidates, ITEMS, mask), atol=1e-12)


def test_a_single_entry_is_read_as_it_is() -> None:
    mask = MASK.clone()
    mask[:, :, 1:] = False
    module = expert()
    found = read(module, draw_items(C), ITEMS, mask)
    expected = module.norm(module.value(brought_to_length(ENTRIES[ITEMS[1, 2, 0]])))
    assert torch.allclose(found[1, 2], expected.expand(C, D), atol=1e-12)


def test_the_router_is_a_softmax_over_the_experts() -> None:
    torch.manual_seed(0)
    router, x = Router(D, 6, 3).double(), draw(7, D)
    found = router(x)
    expected = torch.softmax(router.weights(torch.relu(router.hidden(x))), dim=-1)
    assert found.shape == (7, 3)
    assert torch.allclose(found, expected)
    assert torch.allclose(found.sum(-1), torch.ones(7, dtype=torch.double))
