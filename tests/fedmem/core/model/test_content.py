"""The gating against its plain formula, and what happens where content is missing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fedmem.core.model import Content
from fedmem.core.model.content import AlignGating, leanings, zero_projector
from fedmem.runs.configuration import compose_settings
from tests.helpers.small_world import SMALL

MODEL = compose_settings(SMALL).model
X, Y, C, D, G = 2, 3, 4, MODEL.dim, MODEL.gating_hidden
BOTH = torch.ones(X, C, 2, dtype=torch.bool)


@pytest.fixture
def gating() -> AlignGating:
    torch.manual_seed(0)
    return AlignGating(MODEL).double()


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


HIDDEN, VISUAL, TEXT = draw(X, Y, D), draw(X, C, D, seed=2), draw(X, C, D, seed=3)


def picture_of(gating: AlignGating, present: Tensor, keep: Tensor | None = None) -> Tensor:
    """The picture's weight [X, Y, C] where items have these modalities [X, C, 2]."""
    lean = leanings(present.flatten(0, 1)).view(X, C)
    return gating(gating.position_part(HIDDEN), gating.item_part(VISUAL, TEXT), lean, keep)  # type: ignore[no-any-return]


def plain_picture(gating: AlignGating, keep: Tensor | None = None) -> Tensor:
    """The same from the softmax over both modalities of every pair."""
    everywhere = (X, Y, C, D)
    joined = torch.cat(
        [
            HIDDEN.unsqueeze(2).expand(everywhere),
            VISUAL.unsqueeze(1).expand(everywhere),
            TEXT.unsqueeze(1).expand(everywhere),
        ],
        dim=-1,
    )
    units = torch.relu(gating.hidden(joined))
    if keep is not None:
        units = units * keep.unsqueeze(2)
    return torch.softmax(gating.weights(units), dim=-1)[..., 0]


def gradients(gating: AlignGating, picture: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(picture, list(gating.parameters()), draw(X, Y, C, seed=4))


def test_the_gating_and_its_gradients_are_those_of_the_plain_formula(gating: AlignGating) -> None:
    found, expected = picture_of(gating, BOTH), plain_picture(gating)
    assert found.shape == (X, Y, C)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients(gating, found), gradients(gating, expected))
    assert ((found > 0) & (found < 1)).all()


def test_dropout_scales_the_hidden_units_of_a_position(gating: AlignGating) -> None:
    keep = (draw(X, Y, G, seed=5) > 0) * 2.0
    found, expected = picture_of(gating, BOTH, keep), plain_picture(gating, keep)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients(gating, found), gradients(gating, expected))
    assert not torch.allclose(found, picture_of(gating, BOTH))


def test_items_lean_to_what_they_have() -> None:
    present = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
    assert leanings(present).tolist() == [0.0, math.inf, -math.inf, -math.inf]


@pytest.mark.parametrize(("present", "expected"), [((True, False), 1.0), ((False, True), 0.0)])
def test_a_missing_modality_weighs_exactly_nothing(
    gating: AlignGating, present: tuple[bool, bool], expected: float
) -> None:
    some = BOTH.clone()
    some[:, 1] = torch.tensor(present)
    found = picture_of(gating, some)
    assert (found[:, :, 1] == expected).all()
    assert torch.equal(found[:, :, 0], picture_of(gating, BOTH)[:, :, 0])


def test_missing_content_leaves_all_gradients_finite(gating: AlignGating) -> None:
    present = torch.tensor([[True, True], [False, False], [True, False], [False, True]])
    for gradient in gradients(gating, picture_of(gating, present.expand(X, C, 2))):
        assert gradient.isfinite().all()


def test_a_projector_starts_at_exactly_zero() -> None:
    projector = zero_projector(12, 5)
    assert projector(torch.randn(3, 12)).tolist() == [[0.0] * 5] * 3


def test_a_row_of_zeros_is_a_missing_modality() -> None:
    content = Content(
        visual=torch.tensor([[0.0, 0.0], [0.0, -1.0], [0.0, 0.0]]),
        text=torch.tensor([[0.0], [0.0], [2.0]]),
    )
    assert content.present.tolist() == [[False, False], [True, False], [False, True]]
