"""Items whose embeddings are projections of content: the table, its rows, and its gradient."""

from __future__ import annotations

import torch

from fedmem.core.model import Content
from fedmem.core.model.item_start import ContentMap
from fedmem.core.model.projected_items import ProjectedItems
from fedmem.core.settings import Settings

GENERATOR = torch.Generator().manual_seed(0)
VISUAL, TEXT = torch.randn(31, 5, generator=GENERATOR), torch.randn(31, 3, generator=GENERATOR)
VISUAL[[0, 4]], TEXT[[0, 4]] = 0, 0  # the padding, and an item without any content
VISUAL[7] = 0
CONTENT = Content(VISUAL, TEXT)


def test_a_row_is_the_projection_of_all_that_an_item_shows(settings: Settings) -> None:
    items = ProjectedItems(CONTENT, settings.model)
    assert items.state_dict().keys() == {"projection"}
    with torch.no_grad():
        items.projection.copy_(torch.eye(8, settings.model.dim))
    start = ContentMap.fit(CONTENT, 8, settings.model.item_whitening).rows(CONTENT)
    assert start.shape == (31, 8)  # all of the content, not as many components as embeddings have
    torch.testing.assert_close(items.weight[:, :8], start)
    assert not items.weight[:, 8:].any()
    assert not items.weight[[0, 4]].any()
    assert items.weight[7].any()
    chosen = torch.tensor([[3, 0], [7, 3]])
    assert torch.equal(items(chosen), items.weight[chosen])


def test_what_one_item_learns_moves_those_that_look_like_it(settings: Settings) -> None:
    items = ProjectedItems(CONTENT, settings.model)
    wanted = torch.randn(settings.model.dim, generator=GENERATOR)
    (items(torch.tensor([2])) @ wanted).sum().backward()
    gradient = items.projection.grad
    assert gradient is not None
    torch.testing.assert_close(gradient, torch.outer(items.content[2], wanted))
    before = items.weight.detach().clone()
    with torch.no_grad():
        items.projection += gradient
    moved = (items.weight - before) @ wanted / wanted.square().sum()
    torch.testing.assert_close(moved, items.content @ items.content[2])


def test_a_kind_that_the_data_lack_leaves_its_part_of_the_projection_alone(
    settings: Settings,
) -> None:
    items = ProjectedItems(Content(VISUAL, torch.zeros(31, 1)), settings.model)
    assert items.projection.shape[0] == 6
    assert not items.content[:, 5:].any()
    assert items.weight[1].any()
