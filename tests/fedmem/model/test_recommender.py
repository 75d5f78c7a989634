"""The score against a naive loop, and the two invariants that hang on how a stage starts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fedmem.configuration import compose_settings
from fedmem.dropout import NO_DROPOUT
from fedmem.losses import cross_entropy_over_candidates
from fedmem.model import Content, Memories, Recommender
from fedmem.stages import STAGES
from tests.conftest import SMALL

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


def memories() -> Memories:
    mask = torch.ones(B, P, M, dtype=torch.bool)
    mask[0, 1, 2:] = False
    mask[1, 2] = False
    return Memories(draw_items(B, P, M, seed=4) * mask, mask)


def plain_z(model: Recommender, h: Tensor, item: int) -> Tensor:
    """Σ of the modalities present, weighted by the softmax over them."""
    parts = [model.visual_proj(model.visual[item]), model.text_proj(model.text[item])]
    units = F.relu(model.align_gating.hidden(torch.cat([h, *parts])))
    logits = model.align_gating.weights(units).exp()
    held = [m for m, vectors in enumerate((model.visual, model.text)) if vectors[item].any()]
    total = sum(logits[m] for m in held)
    return sum((logits[m] / total * parts[m] for m in held), torch.zeros_like(h))


def plain_read(model: Recommender, name: str, item: int, entries: Tensor) -> Tensor:
    """LN(o) of one expert for one item and one memory; nothing where that is empty."""
    if not len(entries):
        return torch.zeros(D, dtype=torch.double)
    e = model.sasrec.item_emb.weight
    visual, text = model.visual_proj(model.visual), model.text_proj(model.text)
    query, keys = {"visual": (visual, visual), "semantic": (e, text), "identity": (e, e)}[name]
    held = torch.ones(1, 1, len(entries), dtype=torch.bool)
    expert = model.get_submodule(f"{name}_expert")
    return expert(query, keys, torch.tensor([item]), entries[None, None], held)[0, 0, 0]  # type: ignore[no-any-return]


def plain_score(model: Recommender, h: Tensor, item: int, entries: Tensor | None) -> Tensor:
    e = model.sasrec.item_emb.weight[item]
    score = h @ e
    if model.stage.content:
        score = score + model.gating_weight.content * (h @ plain_z(model, h, item))
    if entries is not None:
        routed = model.router(e)
        for k, name in enumerate(model.experts):
            read = plain_read(model, name, item, entries)
            score = score + model.gating_weight.memory * routed[k] * (read @ e)
    return score


@pytest.mark.parametrize("stage", list(STAGES))
def test_the_score_equals_a_naive_loop(stage: str) -> None:
    model, candidates = trained(stage), draw_items(B, P, C)
    candidates[0, 0, :3] = torch.tensor([NEITHER, NO_PICTURE, NO_TEXT])
    hidden = draw(B, P, D).double()
    held = memories() if model.stage.memory else None
    projected = model.project() if model.stage.content else None
    found = model.score(hidden, candidates, held, projected)
    assert found.shape == (B, P, C)
    for b in range(B):
        for p in range(P):
            entries = held.items[b, p][held.mask[b, p]] if held else None
            for c in range(C):
                item = int(candidates[b, p, c])
                expected = plain_score(model, hidden[b, p], item, entries)
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
    found = model.score(hidden, candidates, held, model.project())
    expected = plain_score(model, hidden[0, 1], int(candidates[2]), held.items[0, 1, :2])
    assert torch.allclose(found[0, 1, 2], expected, atol=1e-10)


@pytest.mark.parametrize("stage", list(STAGES))
def test_the_three_forms_of_candidates_get_the_same_scores(stage: str) -> None:
    model, shared = trained(stage), draw_items(C)
    hidden, held = draw(B, P, D).double(), memories() if model.stage.memory else None
    projected = model.project() if model.stage.content else None
    by_all, by_row, by_none = (
        model.score(hidden, candidates, held, projected)
        for candidates in (shared, shared.expand(B, C), shared.expand(B, P, C))
    )
    assert torch.allclose(by_all, by_row, atol=1e-12)
    assert torch.allclose(by_all, by_none, atol=1e-12)


@pytest.mark.parametrize("stage", ["align_projectors", "finetune_moe"])
@pytest.mark.parametrize("shape", [(ITEMS,), (B, C), (B, P, C)])
def test_at_its_start_a_stage_scores_exactly_as_stage_1(stage: str, shape: tuple[int, ...]) -> None:
    first, model = fresh("pretrain_sasrec"), fresh(stage)
    model.sasrec.load_state_dict(first.sasrec.state_dict())
    hidden = first.sasrec(draw_items(B, P), NO_DROPOUT)
    assert torch.equal(model.sasrec(draw_items(B, P), NO_DROPOUT), hidden)
    candidates = draw_items(*shape)
    held = memories() if model.stage.memory else None
    found = model.score(hidden, candidates, held, model.project())
    assert torch.equal(found, first.score(hidden, candidates))


def test_stage_3_starts_with_the_scores_of_a_trained_stage_2() -> None:
    second, third = trained("align_projectors"), fresh("finetune_moe").double()
    for module in ("sasrec", "visual_proj", "text_proj", "align_gating", "gating_weight"):
        third.get_submodule(module).load_state_dict(second.get_submodule(module).state_dict())
    with torch.no_grad():
        third.gating_weight.memory.zero_()  # stage 2 never trains it
    hidden, candidates = draw(B, P, D).double(), draw_items(B, C)
    found = third.score(hidden, candidates, memories(), third.project())
    assert torch.equal(found, second.score(hidden, candidates, None, second.project()))


def test_after_one_step_every_tensor_that_stage_2_trains_gets_a_gradient() -> None:
    model = fresh("align_projectors")
    scope = {n: p for n, p in model.named_parameters() if model.stage.in_scope(n)}
    hidden, items = draw(B, P, D), draw_items(B, P, 1, seed=6)

    def backward() -> None:
        projected = model.project()
        positive = model.score(hidden, items, None, projected)
        negative = model.score(hidden, draw_items(B, C), None, projected)
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
    model.score(hidden, candidates, memories(), model.project()).square().sum().backward()
    parts = ("visual_expert", "semantic_expert", "identity_expert", "router", "gating_weight")
    for name, parameter in model.named_parameters():
        if name.startswith(parts):
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


def test_the_content_embedding_equals_the_plain_formula() -> None:
    model, items = trained("align_projectors"), draw_items(B, P)
    items[0] = torch.tensor([NEITHER, NO_PICTURE, NO_TEXT])
    hidden = draw(B, P, D).double()
    found = model.content_embedding(hidden, items, model.project())
    for b in range(B):
        for p in range(P):
            expected = plain_z(model, hidden[b, p], int(items[b, p]))
            assert torch.allclose(found[b, p], expected, atol=1e-12)


def test_an_item_without_content_has_a_content_embedding_of_exactly_zero() -> None:
    model = trained("align_projectors")
    assert model.visual_proj.bias.all()
    found = model.content_embedding(
        draw(1, 1, D).double(), torch.tensor([[NEITHER]]), model.project()
    )
    assert not found.any()


def test_empty_memories_score_as_none_at_all() -> None:
    model, hidden = trained("finetune_moe"), draw(B, P, D).double()
    candidates, projected = draw_items(B, C), model.project()
    empty = Memories(torch.zeros(B, P, M, dtype=torch.long), torch.zeros(B, P, M, dtype=torch.bool))
    without = model.score(hidden, candidates, None, projected)
    assert torch.equal(model.score(hidden, candidates, empty, projected), without)
    assert not torch.allclose(model.score(hidden, candidates, memories(), projected), without)


def test_the_row_of_the_padding_gets_no_gradient_from_the_score() -> None:
    model = trained("pretrain_sasrec")
    candidates = torch.tensor([[0, 1, 2], [0, 3, 0]])
    model.score(draw(B, P, D).double(), candidates).sum().backward()
    gradient = model.sasrec.item_emb.weight.grad
    assert gradient is not None
    assert gradient.any(1).nonzero().flatten().tolist() == [1, 2, 3]


def test_a_stage_that_uses_content_refuses_to_do_without() -> None:
    with pytest.raises(ValueError, match="content"):
        Recommender(MODEL, STAGES["align_projectors"], ITEMS, None)


def test_stage_1_needs_no_content() -> None:
    model = Recommender(MODEL, STAGES["pretrain_sasrec"], ITEMS, None)
    assert {name.split(".")[0] for name in model.state_dict()} == {"sasrec"}
