"""The start of the item table from content: known answers, and what is the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fedmem.core.model import Content
from fedmem.core.model.item_start import ContentMap, content_rows, usual_length
from fedmem.core.model.parameters import initial_parameters
from fedmem.core.settings import Settings
from fedmem.core.stages import PRETRAIN_SASREC


def content(visual: list[list[float]], text: list[list[float]]) -> Content:
    return Content(torch.tensor(visual), torch.tensor(text))


def drawn(items: int, widths: tuple[int, int] = (12, 8), seed: int = 0) -> Content:
    generator = torch.Generator().manual_seed(seed)
    visual, text = (torch.randn(items + 1, width, generator=generator) for width in widths)
    visual[0], text[0] = 0, 0
    return Content(visual, text)


FOUR = content(
    [[0, 0]] * 5,
    [[0, 0, 0], [2, 0, 0], [-1, 0, 0], [0, 3, 0], [0, -1, 0]],
)
"""Four items without pictures; their texts of length 1 have the mean 0."""


def test_the_components_of_four_points_on_two_axes() -> None:
    """Variance is 1/2 along both axes, so that components are of equal size whatever whitens."""
    for whitening in (0.0, 0.5, 1.0):
        rows = ContentMap.fit(FOUR, 3, whitening).rows(FOUR)
        assert rows.shape == (5, 2)  # content spans no more
        torch.testing.assert_close(rows[1:].norm(dim=1), torch.ones(4))
        torch.testing.assert_close(rows[1], -rows[2])
        torch.testing.assert_close(rows[3], -rows[4])
        assert abs(float(rows[1] @ rows[3])) < 1e-6
        assert not rows[0].any()


def test_whitening_brings_components_to_equal_size() -> None:
    uneven = drawn(300)
    uneven = Content(uneven.visual * torch.linspace(5, 0.1, 12), uneven.text)
    deviations = {
        whitening: ContentMap.fit(uneven, 6, whitening).rows(uneven)[1:].std(0)
        for whitening in (0.0, 0.5, 1.0)
    }
    ratio = {w: found[0] / found[-1] for w, found in deviations.items()}
    torch.testing.assert_close(ratio[1.0], torch.tensor(1.0))
    torch.testing.assert_close(ratio[0.5], ratio[0.0].sqrt())
    assert ratio[0.0] > 1.2


def test_the_first_component_is_along_the_most_variance_and_signs_are_fixed() -> None:
    known = drawn(200)
    whole = ContentMap.fit(known, 20, 0.5)
    entries = whole.components
    assert (entries[np.abs(entries).argmax(0), np.arange(entries.shape[1])] > 0).all()
    rotated = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(3)))[0]
    other = Content(known.visual @ rotated, known.text)
    one, two = (
        content_map.rows(c)[1:]
        for content_map, c in ((whole, known), (ContentMap.fit(other, 20, 0.5), other))
    )
    torch.testing.assert_close(one @ one.T, two @ two.T, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dim", [3, 8, 20, 64])
@pytest.mark.parametrize("widths", [(12, 8), (1, 40), (30, 1)])
def test_rows_of_any_widths_have_a_mean_length_of_one(dim: int, widths: tuple[int, int]) -> None:
    known = drawn(50, widths)
    rows = ContentMap.fit(known, dim, 0.5).rows(known)
    assert rows.shape[1] <= dim
    assert rows.isfinite().all()
    assert rows[1:].norm(dim=1).mean() == pytest.approx(1.0, abs=1e-5)


def test_a_missing_kind_counts_as_the_mean_and_an_item_without_any_has_no_row() -> None:
    known = drawn(40)
    known.visual[7], known.text[7] = 0, 0
    known.visual[8] = 0
    found = ContentMap.fit(known, 10, 0.5)
    rows = found.rows(known)
    assert not rows[7].any()
    average = Content(known.visual.clone(), known.text.clone())
    average.visual[8] = torch.from_numpy(found.means[0]).float()
    # The mean of unit vectors is none itself, so it is compared where it is centred: at zero.
    mapped = (torch.cat([torch.zeros(12), known.text[8] / known.text[8].norm()])).double().numpy()
    mapped[12:] -= found.means[1]
    torch.testing.assert_close(rows[8], torch.from_numpy(mapped @ found.components).float())


def test_new_items_are_placed_as_if_they_had_been_there() -> None:
    known, new = drawn(60), drawn(5, seed=1)
    found = ContentMap.fit(known, 10, 0.5)
    both = Content(
        *(
            torch.cat([a, b[1:]])
            for a, b in zip((known.visual, known.text), (new.visual, new.text), strict=True)
        )
    )
    torch.testing.assert_close(found.rows(both)[61:], found.rows(new)[1:])


def test_no_content_at_all_gives_no_dimension() -> None:
    nothing = Content(torch.zeros(4, 3), torch.zeros(4, 2))
    assert ContentMap.fit(nothing, 8, 0.5).rows(nothing).shape == (4, 0)


def test_items_without_content_and_dimensions_beyond_it_start_as_they_do_otherwise(
    settings: Settings,
) -> None:
    def table(rows: Tensor | None) -> Tensor:
        model = settings.model
        made = initial_parameters(model, PRETRAIN_SASREC, 40, (0, 0), 0, {}, rows)
        return made["sasrec.item_emb.weight"]

    known = drawn(40, (2, 3))
    known.visual[9], known.text[9] = 0, 0
    rows = content_rows(known, settings.model)
    found, random, width = table(rows), table(None), rows.shape[1]
    assert 0 < width < settings.model.dim
    assert torch.equal(found[9], random[9])
    assert torch.equal(found[0], random[0])
    assert torch.equal(found[:, width:], random[:, width:])
    others = [item for item in range(1, 41) if item != 9]
    assert torch.equal(found[others, :width], rows[others])


def test_the_usual_length_falls_with_the_cube_root_of_the_interactions_an_item() -> None:
    assert usual_length(27) == pytest.approx(1.0)
    assert usual_length(1000) == pytest.approx(0.3)
    assert usual_length(1) == usual_length(0) == 1.5
