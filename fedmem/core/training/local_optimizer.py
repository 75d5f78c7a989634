"""How the gradients of local steps become a user's change."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from fedmem.core.settings import ClientSettings


class LocalOptimizer(Protocol):
    """Sums up the steps of one user, or of several side by side: it goes element by element.

    The change is kept apart from the parameters: new − old would round away what is small beside
    them.
    """

    def step(self, gradients: list[Tensor], divisor: float = 1.0) -> list[Tensor]:
        """The change since the start with one more step, along gradients that are divided first.

        The gradients are taken over, and the change is the same memory at every step.
        """
        ...


def make_local_optimizer(settings: ClientSettings) -> LocalOptimizer:
    """The optimizer that `client.optimizer` names."""
    kinds: dict[str, type[Descent | AdamSteps]] = {"sgd": Descent, "adam": AdamSteps}
    return kinds[settings.optimizer](settings.learning_rate)


class Descent:
    """Stochastic gradient descent: the change is the rate times the sum of the gradients."""

    def __init__(self, learning_rate: float) -> None:
        self._learning_rate = learning_rate
        self._change: list[Tensor] = []

    def step(self, gradients: list[Tensor], divisor: float = 1.0) -> list[Tensor]:
        """See `LocalOptimizer`; each step is one pass over the change."""
        rate = -self._learning_rate / divisor
        if self._change:
            torch._foreach_add_(self._change, gradients, alpha=rate)
        else:
            torch._foreach_mul_(gradients, rate)
            self._change = gradients
        return self._change


class AdamSteps:
    """Torch's Adam, whose parameters are the change."""

    def __init__(self, learning_rate: float, eps: float = 1e-8) -> None:
        self._learning_rate, self._eps = learning_rate, eps
        self._adam: torch.optim.Adam | None = None
        self._change: list[Tensor] = []

    def step(self, gradients: list[Tensor], divisor: float = 1.0) -> list[Tensor]:
        """See `LocalOptimizer`."""
        if self._adam is None:
            self._change = [torch.zeros_like(gradient) for gradient in gradients]
            self._adam = torch.optim.Adam(
                self._change, lr=self._learning_rate, eps=self._eps, foreach=True
            )
        torch._foreach_div_(gradients, divisor)
        for change, gradient in zip(self._change, gradients, strict=True):
            change.grad = gradient
        self._adam.step()
        return self._change
