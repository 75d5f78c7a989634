"""The gating against its plain formula, and what happens where content is missing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fedmem.configuration import compose_settings
from fedmem.model import Content
from fedmem.model.content import AlignGating, zero_projector
from tests.conftest import SMALL

MODEL = compose_settings(SMALL).model
B, P, C, D, G = 2, 3, 4, MODEL.dim, MODEL.gating_hidden
BOTH = torch.ones(1, 1, C, 2, dtype=torch.bool)


@pytest.fixture
def gating() -> AlignGating:
    torch.manual_seed(0)
    return AlignGating(MODEL).double()


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(1))


def weights_of(
    gating: AlignGating,
    present: Tensor,
    keep: Tensor | None = None,
    layout: tuple[int, int] = (1, 1),
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    hidden, visual, text = draw(B, P, D), draw(*layout, C, D), 2 - draw(*layout, C, D)
    found = gating(gating.position_part(hidden), gating.item_part(visual, text), present, keep)
    return found, hidden, visual, text


@pytest.mark.parametrize("layout", [(1, 1), (B, 1), (B, P)])
def test_the_gating_equals_the_plain_formula(gating: AlignGating, layout: tuple[int, int]) -> None:
    found, hidden, visual, text = weights_of(gating, BOTH, layout=layout)
    assert found.shape == (B, P, C, 2)
    everywhere = (B, P, C, D)
    joined = torch.cat(
        [
            hidden.unsqueeze(2).expand(everywhere),
            visual.expand(everywhere),
            text.expand(everywhere),
        ],
        dim=-1,
    )
    expected = torch.softmax(gating.weights(torch.relu(gating.hidden(joined))), dim=-1)
    assert torch.allclose(found, expected, atol=1e-12)


def test_dropout_scales_the_hidden_units_of_a_position(gating: AlignGating) -> None:
    keep = (draw(B, P, G) > 0) * 2.0
    found, hidden, visual, text = weights_of(gating, BOTH, keep)
    joined = torch.cat([hidden[1, 2], visual[0, 0, 3], text[0, 0, 3]])
    units = torch.relu(gating.hidden(joined)) * keep[1, 2]
    expected = torch.softmax(gating.weights(units), dim=-1)
    assert torch.allclose(found[1, 2, 3], expected, atol=1e-12)


def test_both_modalities_share_a_weight_of_1(gating: AlignGating) -> None:
    found = weights_of(gating, BOTH)[0]
    assert torch.allclose(found.sum(-1), torch.ones(B, P, C, dtype=torch.double))
    assert (found > 0).all()


@pytest.mark.parametrize(
    ("present", "expected"),
    [((True, False), [1.0, 0.0]), ((False, True), [0.0, 1.0]), ((False, False), [0.0, 0.0])],
)
def test_a_missing_modality_weighs_nothing_and_the_rest_is_renormalised(
    gating: AlignGating, present: tuple[bool, bool], expected: list[float]
) -> None:
    mask = BOTH.clone()
    mask[0, 0, 1] = torch.tensor(present)
    found = weights_of(gating, mask)[0]
    assert found[:, :, 1].reshape(-1, 2).tolist() == [expected] * (B * P)
    assert torch.equal(found[:, :, 0], weights_of(gating, BOTH)[0][:, :, 0])


def test_missing_content_leaves_all_gradients_finite(gating: AlignGating) -> None:
    mask = torch.tensor([[True, True], [False, False], [True, False], [False, True]])
    found = weights_of(gating, mask[None, None])[0]
    found.square().sum().backward()
    for parameter in gating.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_a_projector_starts_at_exactly_zero() -> None:
    projector = zero_projector(12, 5)
    assert projector(torch.randn(3, 12)).tolist() == [[0.0] * 5] * 3


def test_a_row_of_zeros_is_a_missing_modality() -> None:
    content = Content(
        visual=torch.tensor([[0.0, 0.0], [0.0, -1.0], [0.0, 0.0]]),
        text=torch.tensor([[0.0], [0.0], [2.0]]),
    )
    assert content.present.tolist() == [[False, False], [True, False], [False, True]]
