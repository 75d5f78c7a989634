"""Ridge regression whose penalty follows from the data.

G. H. Golub, M. Heath, G. Wahba, "Generalized cross-validation as a method for choosing a good ridge
parameter", Technometrics 21 (1979), 215–223.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PENALTIES = 2.0 ** torch.arange(8, -30, -0.5, dtype=torch.float64)
"""Those to choose from, beside the largest eigenvalue of the inputs' products."""


@dataclass(frozen=True)
class Ridge:
    """A linear map from inputs to outputs: means of both, and what lies between.

    Attributes:
        inputs: [K] their mean.
        outputs: [D] their mean.
        weights: [K, D].
    """

    inputs: Tensor
    outputs: Tensor
    weights: Tensor

    @classmethod
    def fit(cls, inputs: Tensor, outputs: Tensor) -> Ridge:
        """The map of inputs [N, K] to outputs [N, D], all of float64.

        The penalty λ has the lowest V(λ) = ‖Y − Ŷ‖² / (N − tr H)², H the matrix from outputs to
        their estimates: what leaving one out would find, if no sample had more weight than others.
        """
        x_mean, y_mean = inputs.mean(0), outputs.mean(0)
        x, y = inputs - x_mean, outputs - y_mean
        values, directions = torch.linalg.eigh(x.T @ x)
        values = values.clamp(min=0)
        along = directions.T @ (x.T @ y)  # [K, D]
        kept = 1 / (values + values[-1].clamp(min=1e-30) * PENALTIES[:, None])  # [λ, K]
        explained = ((2 * kept - values * kept.square()) * along.square().sum(1)).sum(1)
        left = y.square().sum() - explained  # [λ]
        free = len(x) - 1 - (values * kept).sum(1)  # N − tr H
        best = (left / free.clamp(min=1e-9).square()).argmin()
        return cls(x_mean, y_mean, directions @ (kept[best][:, None] * along))

    def __call__(self, inputs: Tensor) -> Tensor:
        """Estimates [M, D] of the outputs of inputs [M, K]."""
        return self.outputs + (inputs - self.inputs) @ self.weights
