"""What the server does with the averaged change: S. J. Reddi et al., "Adaptive Federated
Optimization", ICLR 2021. The averaged change takes the place of a negative gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from fedmem.core.model.parameters import Parameters
from fedmem.core.settings import StrategySettings
from fedmem.core.training.optimizer_state import load_optimizer_state, optimizer_state


class ServerOptimizer:
    """A step of `torch.optim` along the averaged change of a round.

    - `none`: FedAvg (McMahan et al. 2017): x ← x + Δ, at any pace.
    - `momentum`: FedAvgM (Hsu et al. 2019): v ← β₁v + Δ, x ← x + ηv.
    - `adam`: FedAdam with Adam's bias correction: x ← x + η · m̂ / (√v̂ + ε).

    Args:
        settings: which of them, and its rates.
        state: that `state` gave in an earlier process.
    """

    def __init__(self, settings: StrategySettings, state: Mapping[str, Tensor] | None = None):
        self._settings = settings
        self._earlier = state or {}
        self._values: Parameters = {}
        self._optimizer: Optimizer | None = None

    @torch.no_grad()
    def step(
        self, parameters: Mapping[str, Tensor], change: Mapping[str, Tensor], pace: float = 1.0
    ) -> Parameters:
        """The next parameters, from the current ones and the averaged change of each, by name.

        Args:
            parameters: the current ones; they stay as they are.
            change: of each.
            pace: of the round, multiplies the learning rate; see `fedmem.runs.schedule`.
        """
        if self._optimizer is None:
            self._values = {name: torch.zeros_like(value) for name, value in parameters.items()}
            self._optimizer = _make(self._settings, self._values.values())
            load_optimizer_state(self._optimizer, self._values, self._earlier)
        for name, value in self._values.items():
            value.copy_(parameters[name])
            value.grad = change[name]
        if self._settings.optimizer != "none":
            self._optimizer.param_groups[0]["lr"] = self._settings.learning_rate * pace
        self._optimizer.step()
        return {name: value.clone() for name, value in self._values.items()}

    @property
    def state(self) -> Parameters:
        """What it carries from step to step; a new one goes on from it."""
        if self._optimizer is None:
            return dict(self._earlier)
        return optimizer_state(self._optimizer, self._values)


def _make(settings: StrategySettings, values: Iterable[Tensor]) -> Optimizer:
    # `maximize`: a change is where to go, a gradient where to come from.
    if settings.optimizer == "adam":
        betas = settings.beta_1, settings.beta_2
        return Adam(list(values), betas=betas, eps=settings.epsilon, maximize=True)
    momentum = settings.beta_1 if settings.optimizer == "momentum" else 0.0
    return SGD(list(values), lr=1.0, momentum=momentum, maximize=True)
