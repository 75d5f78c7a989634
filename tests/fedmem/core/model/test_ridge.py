"""Ridge regression: its penalty against leaving out by hand, and its answers against known ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fedmem.core.model import ridge
from fedmem.core.model.ridge import PENALTIES, Ridge


def drawn(samples: int, width: int, noise: float) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, noisy outputs, and the outputs without their noise."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(samples, width, generator=generator, dtype=torch.float64) + 3
    weights = torch.randn(width, 4, generator=generator, dtype=torch.float64)
    true = inputs @ weights - 7
    return inputs, true + noise * torch.randn(true.shape, generator=generator), true


def test_outputs_that_are_linear_in_the_inputs_are_found() -> None:
    inputs, outputs, _ = drawn(60, 5, noise=0)
    torch.testing.assert_close(Ridge.fit(inputs, outputs)(inputs), outputs)
    again = Ridge.fit(torch.cat([inputs, 0 * inputs], 1), outputs)  # inputs that say nothing
    torch.testing.assert_close(again(torch.cat([inputs, inputs], 1)), outputs)


def test_outputs_that_have_nothing_to_do_with_the_inputs_are_their_mean() -> None:
    generator = torch.Generator().manual_seed(1)
    inputs, outputs = torch.randn(2, 400, 10, generator=generator, dtype=torch.float64)
    found = Ridge.fit(inputs, outputs)(inputs)
    assert (found - outputs.mean(0)).norm() < 0.1 * (outputs - outputs.mean(0)).norm()
    alone = Ridge.fit(torch.zeros(5, 3, dtype=torch.float64), outputs[:5])
    torch.testing.assert_close(alone(torch.ones(2, 3).double()), outputs[:5].mean(0).expand(2, 10))


def test_the_penalty_is_near_the_best_for_samples_that_were_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs, outputs, _ = drawn(50, 30, noise=8)

    def left_out(penalties: Tensor) -> float:
        monkeypatch.setattr(ridge, "PENALTIES", penalties)
        error = 0.0
        for one in range(50):
            others = torch.arange(50) != one
            fit = Ridge.fit(inputs[others], outputs[others])
            error += float((fit(inputs[[one]]) - outputs[one]).square().sum())
        return error

    by_penalty = [left_out(penalty[None]) for penalty in PENALTIES[::6]]
    best, worst = min(by_penalty), max(by_penalty)
    assert left_out(PENALTIES) < best + 0.1 * (worst - best)


def test_the_weights_solve_the_normal_equations(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, outputs, _ = drawn(40, 6, noise=1)
    x, y = inputs - inputs.mean(0), outputs - outputs.mean(0)
    gram = x.T @ x
    penalty = 0.25 * torch.linalg.eigvalsh(gram)[-1]
    monkeypatch.setattr(ridge, "PENALTIES", torch.tensor([0.25]).double())
    expected = torch.linalg.solve(gram + penalty * torch.eye(6), x.T @ y)
    torch.testing.assert_close(Ridge.fit(inputs, outputs).weights, expected)
