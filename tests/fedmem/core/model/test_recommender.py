"""The score against a naive loop, and the two invariants that hang on how a stage starts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fedmem.core.model import Content, ItemTables, Recommender
from fedmem.core.model.dropout import NO_DROPOUT
from fedmem.core.model.rows import Rows
from fedmem.core.stages import STAGES
from fedmem.core.training.losses import cross_entropy_over_candidates
from fedmem.runs.configuration import compose_settings
from tests.helpers.small_world import SMALL

MODEL = compose_settings(SMALL).model
B, P, C, M, D, ITEMS = 2, 3, 4, 5, MODEL.dim, 30
NEITHER, NO_PICTURE, NO_TEXT = 3, 5, 7


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def draw_items(*shape: int, seed: int = 2) -> Tensor:
    return torch.randint(1, ITEMS + 1, shape, generator=torch.Generator().manual_seed(seed))


def content() -> Content:
    visual, text = draw(ITEMS + 1, 12), draw(ITEMS + 1, 8)
    visual[[0, NEITHER, NO_PICTURE]] = 0
    text[[0, NEITHER, NO_TEXT]] = 0
    return Content(visual, text)


def fresh(stage: str) -> Recommender:
    torch.manual_seed(0)
    return Recommender(MODEL, STAGES[stage], ITEMS, content())


def trained(stage: str) -> Recommender:
    """A model in double precision whose parameters are all away from where they start."""
    model = fresh(stage).double()
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.double)
            parameter.add_(noise * 0.3)
        model.sasrec.item_emb.weight[0].zero_()
    return model


def memories() -> Tensor:
    """[B, P, M] one position with two entries, one with none, the others full."""
    items = draw_items(B, P, M, seed=4)
    items[0, 1, 2:] = 0
    items[1, 2] = 0
    return items


def read_by(model: Recommender) -> Tensor | None:
    return memories() if model.stage.memory else None


def plain_z(model: Recommender, h: Tensor, item: int) -> Tensor:
    """Σ of the modalities present, weighted by the softmax over them."""
    parts = [model.visual_proj(model.visual[item]), model.text_proj(model.text[item])]
    units = F.relu(model.align_gating.hidden(torch.cat([h, *parts])))
    logits = model.align_gating.weights(units).exp()
    held = [m for m, vectors in enumerate((model.visual, model.text)) if vectors[item].any()]
    total = sum(logits[m] for m in held)
    return sum((logits[m] / total * parts[m] for m in held), torch.zeros_like(h))


def plain_read(model: Recommender, name: str, item: int, entries: Tensor) -> Tensor:
    """LN(o)·e of one expert for one item and one memory; nothing where that is empty."""
    e = model.sasrec.item_emb.weight
    visual, text = model.visual_proj(model.visual), model.text_proj(model.text)
    query, keys = {"visual": (visual, visual), "semantic": (e, text), "identity": (e, e)}[name]
    expert = model.get_submodule(f"{name}_expert")
    tables = expert.tables(query, keys, e)
    return expert(tables, Rows(torch.tensor([[item]])), entries[None, None])[0, 0, 0]  # type: ignore[no-any-return]


def plain_score(model: Recommender, h: Tensor, item: int, entries: Tensor | None) -> Tensor:
    e = model.sasrec.item_emb.weight[item]
    score = h @ e
    if model.stage.content:
        score = score + model.gating_weight.content * (h @ plain_z(model, h, item))
    if entries is not None and len(entries):
        routed = model.router(e)
        for k, name in enumerate(model.experts):
            read = plain_read(model, name, item, entries)
            score = score + model.gating_weight.memory * routed[k] * read
    return score


@pytest.mark.parametrize("stage", list(STAGES))
def test_the_score_equals_a_naive_loop(stage: str) -> None:
    model, candidates = trained(stage), draw_items(B, P, C)
    candidates[0, 0, :3] = torch.tensor([NEITHER, NO_PICTURE, NO_TEXT])
    hidden, held = draw(B, P, D).double(), read_by(model)
    found = model.score(hidden, candidates, model.tables(), held).total
    assert found.shape == (B, P, C)
    for b in range(B):
        for p in range(P):
            entries = None if held is None else held[b, p][held[b, p] > 0]
            for c in range(C):
                expected = plain_score(model, hidden[b, p], int(candidates[b, p, c]), entries)
                assert torch.allclose(found[b, p, c], expected, atol=1e-10)


@pytest.mark.parametrize("experts", [["identity"], ["semantic", "visual"]])
def test_the_score_equals_a_naive_loop_with_a_choice_of_experts(experts: list[str]) -> None:
    torch.manual_seed(0)
    settings = replace(MODEL, experts=experts)
    model = Recommender(settings, STAGES["finetune_moe"], ITEMS, content()).double()
    with torch.no_grad():
        model.gating_weight.memory.fill_(0.7)
    assert model.experts == experts
    hidden, candidates, held = draw(B, P, D).double(), draw_items(C), memories()
    found = model.score(hidden, candidates, model.tables(), held).total
    expected = plain_score(model, hidden[0, 1], int(candidates[2]), held[0, 1, :2])
    assert torch.allclose(found[0, 1, 2], expected, atol=1e-10)


@pytest.mark.parametrize("stage", list(STAGES))
def test_the_three_forms_of_candidates_get_the_same_scores(stage: str) -> None:
    model, shared = trained(stage), draw_items(C)
    hidden, tables = draw(B, P, D).double(), model.tables()
    by_all, by_row, by_none = (
        model.score(hidden, candidates, tables, read_by(model))
        for candidates in (shared, shared.expand(B, C), shared.expand(B, P, C))
    )
    for other in (by_row, by_none):
        torch.testing.assert_close(other, by_all, rtol=0, atol=1e-12)


def test_dropout_of_the_gating_belongs_to_the_position() -> None:
    model = trained("align_projectors")
    tables = model.tables()
    hidden, shared = draw(B, P, D).double(), draw_items(C)
    keep = (draw(B, P, MODEL.gating_hidden) > 0).double() * 2
    forms = [
        model.score(hidden, candidates, tables, None, keep)
        for candidates in (shared, shared.expand(B, C), shared.expand(B, P, C))
    ]
    for other in forms[1:]:
        torch.testing.assert_close(other, forms[0], rtol=0, atol=1e-12)
    assert not torch.allclose(forms[0].total, model.score(hidden, shared, tables).total)
    alone = model.score(hidden[1:, 2:], shared, tables, None, keep[1:, 2:])
    assert torch.allclose(alone.total, forms[0].total[1:, 2:], atol=1e-12)


@pytest.mark.parametrize("stage", ["pretrain_sasrec", "align_projectors", "finetune_moe"])
@pytest.mark.parametrize("shape", [(ITEMS,), (B, C), (B, P, C)])
def test_the_parts_of_a_score_add_up_to_it(stage: str, shape: tuple[int, ...]) -> None:
    model = trained(stage)
    hidden, candidates = draw(B, P, D).double(), draw_items(*shape)
    scores = model.score(hidden, candidates, model.tables(), read_by(model))
    parts = model.contributions(scores)
    torch.testing.assert_close(sum(parts.values()), scores.total, rtol=0, atol=1e-12)
    names = ["sequence", "picture", "text", "memory"]
    assert list(parts) == names[: {"pretrain_sasrec": 1, "align_projectors": 3}.get(stage, 4)]


@pytest.mark.parametrize("stage", ["align_projectors", "finetune_moe"])
@pytest.mark.parametrize("shape", [(ITEMS,), (B, C), (B, P, C)])
def test_at_its_start_a_stage_scores_exactly_as_stage_1(stage: str, shape: tuple[int, ...]) -> None:
    first, model = fresh("pretrain_sasrec"), fresh(stage)
    model.sasrec.load_state_dict(first.sasrec.state_dict())
    hidden = first.sasrec(draw_items(B, P), NO_DROPOUT)
    assert torch.equal(model.sasrec(draw_items(B, P), NO_DROPOUT), hidden)
    candidates = draw_items(*shape)
    found = model.score(hidden, candidates, model.tables(), read_by(model)).total
    assert torch.equal(found, first.score(hidden, candidates).total)


def test_stage_3_starts_with_the_scores_of_a_trained_stage_2() -> None:
    second, third = trained("align_projectors"), fresh("finetune_moe").double()
    for module in ("sasrec", "visual_proj", "text_proj", "align_gating", "gating_weight"):
        third.get_submodule(module).load_state_dict(second.get_submodule(module).state_dict())
    with torch.no_grad():
        third.gating_weight.memory.zero_()  # stage 2 never trains it
    hidden, candidates = draw(B, P, D).double(), draw_items(B, C)
    found = third.score(hidden, candidates, third.tables(), memories())
    expected = second.score(hidden, candidates, second.tables())
    assert torch.equal(found.total, expected.total)
    assert torch.equal(found.picture, expected.picture)


def test_after_one_step_every_tensor_that_stage_2_trains_gets_a_gradient() -> None:
    model = fresh("align_projectors")
    scope = {n: p for n, p in model.named_parameters() if model.stage.in_scope(n)}
    hidden, items = draw(B, P, D), draw_items(B, P, 1, seed=6)

    def backward() -> None:
        tables = model.tables()
        positive = model.score(hidden, items, tables).total
        negative = model.score(hidden, draw_items(B, C), tables).total
        model.zero_grad()
        cross_entropy_over_candidates(positive, negative).sum().backward()

    backward()
    with torch.no_grad():
        for parameter in scope.values():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad)
    assert model.visual_proj.weight.any()
    assert model.text_proj.weight.any()
    backward()
    assert len(scope) == 8
    without = [n for n, p in scope.items() if p.grad is None or not p.grad.any()]
    assert without == []


def test_stage_3_gives_the_experts_a_gradient_as_soon_as_memory_counts() -> None:
    model = trained("finetune_moe")
    hidden, candidates = draw(B, P, D).double(), draw_items(B, P, C)
    model.score(hidden, candidates, model.tables(), memories()).total.square().sum().backward()
    parts = ("visual_expert", "semantic_expert", "identity_expert", "router", "gating_weight")
    for name, parameter in model.named_parameters():
        if name.startswith(parts):
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


def test_content_products_are_those_of_the_plain_content_embedding() -> None:
    model, items = trained("align_projectors"), draw_items(B, P)
    items[0] = torch.tensor([NEITHER, NO_PICTURE, NO_TEXT])
    hidden, tables = draw(B, P, D).double(), model.tables()
    assert tables is not None
    picture = model.score(hidden, items.unsqueeze(2), tables).picture
    found = tables.content_products(items, picture[..., 0])
    for b in range(B):
        for p in range(P):
            item = int(items[b, p])
            z, e = plain_z(model, hidden[b, p], item), model.sasrec.item_emb.weight[item]
            for product, expected in zip(found, (z @ z, z @ e, e @ e), strict=True):
                assert torch.allclose(product[b, p], expected, atol=1e-12)


def test_an_item_without_content_has_a_content_embedding_of_exactly_zero() -> None:
    model = trained("align_projectors")
    assert model.visual_proj.bias.all()
    assert model.text_proj.bias.all()
    tables, item = model.tables(), torch.tensor([NEITHER])
    assert tables is not None
    for picture in (0.0, 0.3, 1.0):
        square, product, _ = tables.content_products(item, torch.tensor([picture]))
        assert not square.any()
        assert not product.any()


def total_loss(model: Recommender, batches: list[Tensor], tables: ItemTables) -> Tensor:
    """Some function of all that the tables hold."""
    hidden, loss = draw(B, P, D).double(), torch.zeros(())
    for items in batches:
        scores = model.score(hidden, items, tables, read_by(model))
        square, product, length = tables.content_products(items, scores.picture[:, 0])
        loss = loss + scores.total.sin().sum() + (square * product + length).sum()
    return loss


@pytest.mark.parametrize("stage", ["align_projectors", "finetune_moe"])
@pytest.mark.parametrize("seeds", [[2], [2, 3, 4]])
def test_gradients_that_gather_in_leaves_are_those_of_one_graph(
    stage: str, seeds: list[int]
) -> None:
    model = trained(stage)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(model.stage.in_scope(name))
    batches = [draw_items(B, C, seed=seed) for seed in seeds]
    tables = model.tables()
    assert tables is not None
    total_loss(model, batches, tables).backward()
    expected = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    tables = model.tables()
    assert tables is not None
    leaves = tables.leaves()
    for batch in batches:
        total_loss(model, [batch], leaves).backward()
    tables.backward(leaves)
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert set(found) == set(expected)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-9)


def test_leaves_that_no_batch_has_used_send_nothing_on() -> None:
    model = trained("finetune_moe")
    tables = model.tables()
    assert tables is not None
    tables.backward(tables.leaves())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_row_of_the_padding_is_zeros_in_the_tables() -> None:
    tables = trained("finetune_moe").tables()
    assert tables is not None
    assert all(len(table) == ITEMS + 1 for table in tables.tensors())
    assert not tables.visual[0].any()
    assert not tables.text[0].any()
    assert not tables.products[0].any()
    assert not any(of_expert.value[0].any() for of_expert in tables.experts.values())


def test_empty_memories_score_as_none_at_all() -> None:
    model, hidden = trained("finetune_moe"), draw(B, P, D).double()
    candidates, tables = draw_items(B, C), model.tables()
    empty = torch.zeros(B, P, M, dtype=torch.long)
    without = model.score(hidden, candidates, tables).total
    assert torch.equal(model.score(hidden, candidates, tables, empty).total, without)
    assert not torch.allclose(model.score(hidden, candidates, tables, memories()).total, without)


def test_the_row_of_the_padding_gets_no_gradient_from_the_score() -> None:
    model = trained("pretrain_sasrec")
    candidates = torch.tensor([[0, 1, 2], [0, 3, 0]])
    model.score(draw(B, P, D).double(), candidates).total.sum().backward()
    gradient = model.sasrec.item_emb.weight.grad
    assert gradient is not None
    assert gradient.any(1).nonzero().flatten().tolist() == [1, 2, 3]


def test_a_stage_that_uses_content_refuses_to_do_without() -> None:
    with pytest.raises(ValueError, match="content"):
        Recommender(MODEL, STAGES["align_projectors"], ITEMS, None)


def test_stage_1_needs_no_content() -> None:
    model = Recommender(MODEL, STAGES["pretrain_sasrec"], ITEMS, None)
    assert {name.split(".")[0] for name in model.state_dict()} == {"sasrec"}
    assert model.tables() is None
