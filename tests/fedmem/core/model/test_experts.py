"""The experts against explicit read-outs; empty and masked memories; the router."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fedmem.core.model import experts
from fedmem.core.model.experts import SHARPNESS, MemoryExpert, Router
from fedmem.core.model.kernels.read_out_moments import TILE, shared_moments
from fedmem.core.model.rows import Rows

B, P, C, M, D, I = 2, 3, 4, 5, 8, 30  # noqa: E741 - as in the shapes


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


def draw_items(*shape: int, seed: int = 2) -> Tensor:
    return torch.randint(1, I + 1, shape, generator=torch.Generator().manual_seed(seed))


QUERIES, ENTRIES, ITEM_EMB = (draw(I + 1, D, seed=seed) for seed in (1, 5, 6))
ITEMS = draw_items(B, P, M)
CANDIDATES = draw_items(B, C, seed=3)


def expert(heads: int = 2) -> MemoryExpert:
    module = MemoryExpert(D, heads).double()
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters(), start=10):
            parameter.copy_(draw(*parameter.shape, seed=seed) * 0.5)
    return module


def held(count: int) -> Tensor:
    """The memories with their first entries only."""
    items = ITEMS.clone()
    items[:, :, count:] = 0
    return items


def read(module: MemoryExpert, candidates: Tensor, items: Tensor) -> Tensor:
    return module(module.tables(QUERIES, ENTRIES, ITEM_EMB), Rows(candidates), items)  # type: ignore[no-any-return]


def brought_to_length(row: Tensor) -> Tensor:
    return row / row.square().sum().sqrt() * (SHARPNESS * D**0.5) ** 0.5


def attend(module: MemoryExpert, query: Tensor, entries: Tensor) -> Tensor:
    """LN(attention) [D] of one candidate's query [D] over the entries [M, D] of one memory."""
    if not len(entries):
        return torch.zeros(D, dtype=query.dtype)
    held = torch.stack([brought_to_length(entry) for entry in entries])
    q, k, v = module.query(brought_to_length(query)), module.key(held), module.value(held)
    size = D // module.heads
    out = []
    for head in range(module.heads):
        part = slice(head * size, (head + 1) * size)
        weights = torch.softmax(k[:, part] @ q[part] / size**0.5, dim=0)
        out.append(sum(w * value[part] for w, value in zip(weights, v, strict=True)))
    return module.norm(torch.cat(out))  # type: ignore[no-any-return]


def naive(
    module: MemoryExpert, spaces: tuple[Tensor, Tensor, Tensor], candidates: Tensor, items: Tensor
) -> Tensor:
    """LN(o)·e [B, P, C] with every read-out formed."""
    queries, entries, item_emb = spaces
    reads = [
        attend(module, queries[i], entries[items[b, p][items[b, p] > 0]]) @ item_emb[i]
        for b in range(B)
        for p in range(P)
        for i in candidates[b]
    ]
    return torch.stack(reads).view(B, P, -1)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_values_and_gradients_are_those_of_read_outs_in_a_naive_loop(heads: int) -> None:
    module, items = expert(heads), held(3)
    items[0, 1] = ITEMS[0, 1]
    items[1, 2] = 0
    spaces = [x.clone().requires_grad_() for x in (QUERIES, ENTRIES, ITEM_EMB)]
    slope = draw(B, P, C, seed=7)
    found = module(module.tables(*spaces), Rows(CANDIDATES), items)
    expected = naive(module, (spaces[0], spaces[1], spaces[2]), CANDIDATES, items)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    inputs = [*spaces, *module.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs, slope),
        torch.autograd.grad(expected, inputs, slope),
        rtol=0,
        atol=1e-10,
    )


def test_single_precision_is_near_to_double() -> None:
    module = expert()
    expected = read(module, CANDIDATES, ITEMS)
    tables = module.float().tables(QUERIES.float(), ENTRIES.float(), ITEM_EMB.float())
    found = module(tables, Rows(CANDIDATES), ITEMS)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-5)


def test_a_row_does_not_depend_on_the_other_rows() -> None:
    module = expert()
    together = read(module, CANDIDATES, ITEMS)
    alone = read(module, CANDIDATES[1:], ITEMS[1:])
    assert torch.allclose(together[1:], alone, atol=1e-12)


@pytest.mark.parametrize("at_once", [1 << 22, 200])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("sharpness", [0.5, 50.0])  # 50: a candidate's odds would underflow
def test_candidates_shared_by_all_memories_are_read_as_apart(
    heads: int, sharpness: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experts, "PAIRS_AT_ONCE", at_once)
    looked_up = []

    def watched(*given: Tensor) -> object:
        looked_up.append(given)
        return shared_moments(*given)

    monkeypatch.setattr(experts, "shared_moments", watched)
    module, items = expert(heads), held(3)
    items[0, 1] = ITEMS[0, 1]
    items[1, 2] = 0
    with torch.no_grad():
        module.query.weight *= sharpness
        candidates = draw_items(2 * TILE + 3, seed=4)
        expected = read(module, candidates.expand(B, -1), items)
        assert not looked_up
        found = read(module, candidates[None], items.view(1, B * P, M))
    assert bool(looked_up) == (sharpness < 1)
    torch.testing.assert_close(found.view(B, P, -1), expected, rtol=0, atol=1e-12)
    assert not found.view(B, P, -1)[1, 2].any()


def test_an_empty_memory_adds_exactly_nothing() -> None:
    items = ITEMS.clone()
    items[1, 2] = 0
    found = read(expert(), CANDIDATES, items)
    assert not found[1, 2].any()
    assert found[1, 1].all()


@pytest.mark.parametrize("empty", [(1, 2), (slice(None), slice(None))])
def test_an_empty_memory_leaves_all_gradients_finite(empty: tuple[int, int]) -> None:
    items = ITEMS.clone()
    items[empty] = 0
    module = expert()
    read(module, CANDIDATES, items).square().sum().backward()
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_masked_entries_do_not_matter() -> None:
    module = expert()
    with torch.no_grad():
        tables = module.tables(QUERIES, ENTRIES, ITEM_EMB)
    found = module(tables, Rows(CANDIDATES), held(3))
    torch.testing.assert_close(found, module(tables, Rows(CANDIDATES), ITEMS[:, :, :3]))
    assert not torch.allclose(found, module(tables, Rows(CANDIDATES), ITEMS))
    tables.key[0] += 100  # what stands at the padding
    assert torch.equal(found, module(tables, Rows(CANDIDATES), held(3)))


def test_content_that_is_still_all_zeros_leaves_all_gradients_finite() -> None:
    module, content = expert(), torch.zeros(I + 1, D, dtype=torch.double, requires_grad=True)
    tables = module.tables(content, content, ITEM_EMB)
    module(tables, Rows(CANDIDATES), ITEMS).square().sum().backward()
    for tensor in (content, *module.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_the_order_of_entries_does_not_matter() -> None:
    order = torch.tensor([3, 0, 4, 2, 1])
    module = expert()
    found = read(module, CANDIDATES, held(4)[:, :, order])
    assert torch.allclose(found, read(module, CANDIDATES, held(4)), atol=1e-12)


def test_a_single_entry_is_read_as_it_is() -> None:
    module = expert()
    found = read(module, CANDIDATES, held(1))
    entry = module.norm(module.value(brought_to_length(ENTRIES[ITEMS[1, 2, 0]])))
    assert torch.allclose(found[1, 2], ITEM_EMB[CANDIDATES[1]] @ entry, atol=1e-12)


def test_the_router_is_a_softmax_over_the_experts() -> None:
    torch.manual_seed(0)
    router, x = Router(D, 6, 3).double(), draw(7, D)
    found = router(x)
    hidden = torch.relu(router.hidden(math.sqrt(D) * x))
    expected = torch.softmax(router.weights(hidden), dim=-1)
    assert found.shape == (7, 3)
    assert torch.allclose(found, expected)
    assert torch.allclose(found.sum(-1), torch.ones(7, dtype=torch.double))
