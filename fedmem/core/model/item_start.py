"""The start of the item table: what items are, before anybody has touched them.

Item embeddings that start at random must learn from interactions alone what pictures and texts
could say from the first round on. Principal components of the content, half-whitened, say it in as
many dimensions as the embeddings have; training goes on from there as from any other start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from fedmem.core.model.content import Content
from fedmem.core.settings import ModelSettings

Matrix = npt.NDArray[np.float64]
SMALLEST = 1e-7
"""Variance of a component, beside the largest, below which it is rounding."""


def usual_length(interactions_per_item: float) -> float:
    """The mean length of a row that `model.item_length=auto` takes: 3 / ∛n.

    An item that is seen often is better off with what the interactions say of it, which long rows
    hold back; one that is seen rarely has little else than its start. docs/content.md has the
    figures that this rests on.
    """
    return float(min(3.0 / max(interactions_per_item, 1.0) ** (1 / 3), 1.5))


@dataclass(frozen=True)
class ContentMap:
    """A linear map from content to K ≤ D dimensions, the same on every machine but for rounding.

    Attributes:
        means: of the unit vectors of pictures [V] and of texts [S], of the items that have one.
        components: [V + S, K] principal components, the first has most variance. Each is scaled by
            σ^−w, of the standard deviation σ along it and the whitening w, and its entry of the
            largest magnitude is positive.
    """

    means: tuple[Matrix, Matrix]
    components: Matrix

    @classmethod
    def fit(cls, content: Content, dim: int, whitening: float) -> ContentMap:
        """The map whose components are those of the items' content [I + 1, …].

        Rows have a mean length of 1. Fewer than `dim` components come of content that spans fewer
        dimensions; none where no item has any.
        """
        means = means_of(content)
        present = centred(content, means)[content.present.any(1).numpy()]  # [N, V + S]
        variances, directions = np.linalg.eigh(present.T @ present / max(len(present), 1))
        variances, directions = variances[::-1][:dim], directions[:, ::-1][:, :dim]
        spans = variances > SMALLEST * max(float(variances[0]), 1e-30)
        variances, directions = variances[spans], directions[:, spans]
        largest = np.abs(directions).argmax(0)
        directions = directions * np.sign(directions[largest, np.arange(len(variances))])
        components = directions * variances ** (-whitening / 2)
        lengths = np.linalg.norm(present @ components, axis=1)
        return cls(means, components / (lengths.mean() if len(variances) else 1.0))

    def rows(self, content: Content) -> Tensor:
        """[I + 1, K] float32 of items' content [I + 1, …]; zeros where there is none.

        A picture or a text that is missing counts as the mean of those that are there.
        """
        mapped = centred(content, self.means) @ self.components
        mapped[~content.present.any(1).numpy()] = 0.0
        return torch.from_numpy(mapped.astype(np.float32))


def content_rows(content: Content, settings: ModelSettings) -> Tensor:
    """The items' rows [I + 1, K] of mean length 1 that their own content makes of them."""
    return ContentMap.fit(content, settings.dim, settings.item_whitening).rows(content)


def means_of(content: Content) -> tuple[Matrix, Matrix]:
    """The mean of the unit vectors of pictures [V] and of texts [S], of the items that have one."""
    visual, text = _unit(content)
    return _mean(visual), _mean(text)


def centred(content: Content, means: tuple[Matrix, Matrix]) -> Matrix:
    """Unit vectors of both kinds side by side [I + 1, V + S], less their means; zeros where one is
    missing.
    """
    pairs = zip(_unit(content), means, strict=True)
    return np.concatenate([(half - mean) * half.any(1, keepdims=True) for half, mean in pairs], 1)


def _unit(content: Content) -> tuple[Matrix, Matrix]:
    visual, text = (F.normalize(x.double(), dim=1).numpy() for x in (content.visual, content.text))
    return visual, text


def _mean(half: Matrix) -> Matrix:
    mean: Matrix = half[half.any(1)].mean(0) if half.any() else half[0]
    return mean
