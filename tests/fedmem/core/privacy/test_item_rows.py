"""What came back for items is read from the changes of layers that read them."""

from __future__ import annotations

import torch

from fedmem.core.model import Content
from fedmem.core.privacy.item_rows import TABLE, ItemRows
from fedmem.core.stages import STAGES

GENERATOR = torch.Generator().manual_seed(0)
ITEMS, DIM = 6, 4
PARAMETERS = {
    TABLE: torch.randn(ITEMS + 1, DIM, generator=GENERATOR),
    "visual_proj.weight": torch.zeros(DIM, 9),
    "text_proj.weight": torch.zeros(DIM, 8),
    "sasrec.blocks.0.qkv.weight": torch.zeros(3 * DIM, DIM),
    "router.hidden.weight": torch.zeros(2, DIM),
}
# Each picture and each text is a direction of its own.
CONTENT = Content(visual=torch.eye(ITEMS + 1, 9), text=torch.eye(ITEMS + 1, 8))


def test_a_stage_that_trains_the_table_shows_its_rows() -> None:
    rows = ItemRows(STAGES["pretrain_sasrec"], PARAMETERS, None)
    change = {TABLE: torch.ones(ITEMS + 1, DIM)}
    assert rows.of_table
    assert rows.names == [TABLE]
    assert rows(change) is change[TABLE]


def test_what_came_back_for_an_item_is_read_from_projectors() -> None:
    rows = ItemRows(STAGES["align_projectors"], PARAMETERS, CONTENT)
    assert rows.names == ["visual_proj.weight", "text_proj.weight"]
    back = {3: torch.tensor([1.0, 2.0, 0.0, 0.0]), 5: torch.tensor([0.0, 0.0, -1.0, 4.0])}
    change = {
        "visual_proj.weight": sum(torch.outer(g, CONTENT.visual[i]) for i, g in back.items()),
        "text_proj.weight": torch.outer(back[3], CONTENT.text[3]),
    }
    expected = torch.zeros(ITEMS + 1, 2 * DIM)
    expected[3] = torch.cat([back[3], back[3]])
    expected[5, :DIM] = back[5]
    torch.testing.assert_close(rows(change), expected / 2**0.5)  # type: ignore[arg-type]


def test_noise_is_as_long_in_rows_of_items_that_lack_a_picture() -> None:
    visual = CONTENT.visual.clone()
    visual[::2] = 0.0
    rows = ItemRows(STAGES["align_projectors"], PARAMETERS, Content(visual, CONTENT.text))
    noise = [
        {
            "visual_proj.weight": torch.randn(DIM, 9, generator=GENERATOR),
            "text_proj.weight": torch.randn(DIM, 8, generator=GENERATOR),
        }
        for _ in range(2000)
    ]
    squares = torch.stack([rows(each).square().sum(1) for each in noise]).mean(0)
    torch.testing.assert_close(squares, torch.full((ITEMS + 1,), float(DIM)), rtol=0.1, atol=0)


def test_what_items_share_does_not_stand_for_each_of_them() -> None:
    shared = Content(visual=CONTENT.visual + 3.0, text=CONTENT.text)
    rows = ItemRows(STAGES["align_projectors"], PARAMETERS, shared)
    change = {
        "visual_proj.weight": torch.outer(torch.ones(DIM), shared.visual[4]),
        "text_proj.weight": torch.zeros(DIM, 8),
    }
    found = rows(change).norm(dim=1)
    assert found.argmax() == 4
    assert found[4] > 2 * found[1:4].max()


def test_the_last_stage_is_read_by_all_layers_that_items_go_into() -> None:
    rows = ItemRows(STAGES["finetune_moe"], PARAMETERS, CONTENT)
    assert set(rows.names) == set(PARAMETERS) - {TABLE}
    change = {name: torch.randn_like(PARAMETERS[name]) for name in rows.names}
    assert rows(change).shape == (ITEMS + 1, 3 * DIM + 2 + 2 * DIM)
