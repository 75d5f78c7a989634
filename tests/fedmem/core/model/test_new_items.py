"""New items: what stands in for their ID embedding, and that the known ones stay as they are."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fedmem.core.model import Content
from fedmem.core.model.item_start import ContentMap
from fedmem.core.model.new_items import Estimate, NewPlaces, stand_ins
from fedmem.core.model.ridge import Ridge
from fedmem.core.node import Node
from fedmem.core.settings import Settings
from fedmem.core.stages import STAGES
from tests.helpers.small_world import TEXT_WIDTH, VISUAL_WIDTH, ready_node

STAGE = STAGES["finetune_moe"]


@pytest.fixture
def make_settings(make_settings: Callable[..., Settings]) -> Callable[..., Settings]:
    """On the CPU, as what is compared with."""
    return functools.partial(make_settings, "simulation.device=cpu")


def new_content(count: int) -> Content:
    generator = torch.Generator().manual_seed(1)
    visual = torch.randn(count + 1, VISUAL_WIDTH, generator=generator)
    text = torch.randn(count + 1, TEXT_WIDTH, generator=generator)
    visual[0], text[0] = 0, 0
    return Content(visual, text)


def test_stand_ins_have_the_mean_and_the_spread_of_the_known() -> None:
    generator = torch.Generator().manual_seed(0)
    content, item_emb = torch.randn(2, 50, 6, generator=generator, dtype=torch.float64)
    content, item_emb = content * 0.1 + 3, item_emb * 2 - 1
    found = stand_ins(content, content, item_emb)
    torch.testing.assert_close(found.mean(0), item_emb.mean(0))
    torch.testing.assert_close(
        (found - found.mean(0)).square().sum(), (item_emb - item_emb.mean(0)).square().sum()
    )
    one, other = stand_ins(content[:2], content, item_emb)
    ratio = (one - other) / (content[0] - content[1])
    torch.testing.assert_close(ratio, ratio[:1].expand(6))  # moved and stretched, nothing else


def test_stand_ins_are_numbers_before_anything_is_learned() -> None:
    nothing = torch.zeros(5, 4)
    assert torch.equal(
        stand_ins(nothing, nothing, torch.eye(5, 4)), torch.eye(5, 4).mean(0).expand(5, 4)
    )


def test_known_items_keep_their_scores(settings: Settings) -> None:
    node = ready_node(settings, STAGE)
    model = node.model(STAGE)
    larger = NewPlaces(model, settings.model, node.content).model_with(new_content(3))
    hidden = torch.randn(2, 4, settings.model.dim)
    memories = torch.randint(0, 41, (2, 4, 5))
    everything = torch.arange(1, 44)
    with torch.no_grad():
        expected = model.score(hidden, everything[:40], model.tables(), memories).total
        found = larger.score(hidden, everything, larger.tables(), memories).total
    torch.testing.assert_close(found[..., :40], expected)
    assert found[..., 40:].std() > 0
    assert len(model.sasrec.item_emb.weight) == 41


def test_a_new_item_is_placed_by_its_own_content_alone(settings: Settings) -> None:
    node = ready_node(settings, STAGE)
    model = node.model(STAGE)
    content = new_content(3)
    third = Content(content.visual[[0, 2]], content.text[[0, 2]])
    together, alone = (
        NewPlaces(model, settings.model, node.content).model_with(new).sasrec.item_emb.weight[41:]
        for new in (content, third)
    )
    torch.testing.assert_close(alone[0], together[1])
    no_text = Content(content.visual, torch.zeros_like(content.text))
    without = NewPlaces(model, settings.model, node.content).model_with(no_text)
    assert torch.equal(without.lean[41:], torch.full((3,), torch.inf))


def test_what_is_learned_from_content_is_z_with_both_weighed_alike(settings: Settings) -> None:
    node = Node(settings)
    model = ready_node(settings, STAGE).model(STAGE)
    found, tables = model.content(), model.tables()
    assert tables is not None
    both, no_picture, no_text = 1, 5, 7
    torch.testing.assert_close(found[both], (tables.visual[both] + tables.text[both]) / 2)
    torch.testing.assert_close(found[no_picture], tables.text[no_picture])
    torch.testing.assert_close(found[no_text], tables.visual[no_text])
    assert not found[3].any()  # no content
    assert node.content.present[both].all()


@pytest.mark.parametrize("name", ["pretrain_sasrec", "align_projectors"])
def test_after_a_start_from_content_new_items_stand_where_such_content_has_come_to(
    name: str, make_settings: Callable[..., Settings]
) -> None:
    """Rows that training took elsewhere by a linear map: a new item's content says where."""
    settings = make_settings("model.item_start=content")
    node, stage = ready_node(settings, STAGES[name]), STAGES[name]
    known, new = node.content, new_content(3)
    start = ContentMap.fit(known, settings.model.dim, settings.model.item_whitening)
    moved = torch.randn(start.components.shape[1], settings.model.dim)

    def taken(content: Content) -> Tensor:
        return start.rows(content) @ moved + 0.5

    model = node.model(stage)
    with torch.no_grad():
        model.sasrec.item_emb.weight[1:] = taken(known)[1:]
    larger = NewPlaces(model, settings.model, known).model_with(new)
    found = larger.sasrec.item_emb.weight
    assert torch.equal(found[:41], model.sasrec.item_emb.weight)
    torch.testing.assert_close(found[41:], taken(new)[1:], rtol=1e-4, atol=1e-3)


def test_an_untrained_table_gives_new_items_the_rows_that_they_would_have_started_from(
    make_settings: Callable[..., Settings],
) -> None:
    settings = make_settings("model.item_start=content")
    node, new = Node(settings), new_content(4)
    start = ContentMap.fit(node.content, settings.model.dim, settings.model.item_whitening)
    model = node.model(STAGES["pretrain_sasrec"])
    with torch.no_grad():
        model.sasrec.item_emb.weight.copy_(start.rows(node.content))
    larger = NewPlaces(model, settings.model, node.content).model_with(new)
    found = larger.sasrec.item_emb.weight[41:]
    torch.testing.assert_close(found, start.rows(new)[1:], rtol=1e-4, atol=1e-4)


def test_what_the_known_items_say_is_fitted_once(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, fits = make_settings("model.item_start=content"), []
    node = Node(settings)
    places = NewPlaces(node.model(STAGES["pretrain_sasrec"]), settings.model, node.content)
    fit = Ridge.fit
    monkeypatch.setattr(Ridge, "fit", lambda *given: fits.append(given) or fit(*given))
    for _ in range(2):
        places.model_with(new_content(2))
    assert len(fits) == 1


def test_a_table_that_content_says_nothing_of_places_new_items_at_its_middle() -> None:
    known, new = new_content(200), new_content(5)
    item_emb = torch.randn(201, 6, generator=torch.Generator().manual_seed(2))
    found, middle = Estimate.fit(known, item_emb)(new).float()[1:], item_emb[1:].mean(0)
    assert (found - middle).norm(dim=1).max() < 0.2 * (item_emb[1:] - middle).norm(dim=1).mean()
