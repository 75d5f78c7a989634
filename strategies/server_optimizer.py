"""What the server does with the averaged change: S. J. Reddi et al., "Adaptive Federated
Optimization", ICLR 2021. The averaged change takes the place of a negative gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from fedmem.core.settings import StrategySettings

Arrays = dict[str, npt.NDArray[np.floating]]


class ServerOptimizer(ABC):
    """Turns the averaged change of a round into a step; its state is by parameter name."""

    @abstractmethod
    def step(self, parameters: Arrays, change: Arrays, pace: float = 1.0) -> Arrays:
        """The next parameters, from the current ones and the averaged change of each.

        Args:
            parameters: by name.
            change: by name.
            pace: of the round, multiplies the learning rate; see `strategies/pace.py`.
        """

    @abstractmethod
    def state(self) -> Arrays:
        """What it carries from step to step; `load_state` of a new one goes on from it."""

    @abstractmethod
    def load_state(self, state: Arrays) -> None:
        """Go on from what `state` gave."""


class PlainAverage(ServerOptimizer):
    """FedAvg (McMahan et al. 2017): the next parameters are the average of the users'; no pace."""

    def step(self, parameters: Arrays, change: Arrays, pace: float = 1.0) -> Arrays:  # noqa: D102
        return {name: value + change[name] for name, value in parameters.items()}

    def state(self) -> Arrays:  # noqa: D102
        return {}

    def load_state(self, state: Arrays) -> None: ...  # noqa: D102


class Momentum(ServerOptimizer):
    """FedAvgM (Hsu et al. 2019): v ← β₁v + Δ, x ← x + ηv."""

    def __init__(self, settings: StrategySettings) -> None:
        self._settings = settings
        self._velocity: Arrays = {}

    def step(self, parameters: Arrays, change: Arrays, pace: float = 1.0) -> Arrays:  # noqa: D102
        for name, value in change.items():
            velocity = self._velocity.get(name, np.zeros_like(value))
            self._velocity[name] = self._settings.beta_1 * velocity + value
        rate = self._settings.learning_rate * pace
        return {name: x + rate * self._velocity[name] for name, x in parameters.items()}

    def state(self) -> Arrays:  # noqa: D102
        return _joined(velocity=self._velocity)

    def load_state(self, state: Arrays) -> None:  # noqa: D102
        self._velocity = _part("velocity", state)


class Adam(ServerOptimizer):
    """FedAdam with Adam's bias correction: x ← x + η · m̂ / (√v̂ + ε)."""

    def __init__(self, settings: StrategySettings) -> None:
        self._settings = settings
        self._steps = 0
        self._mean: Arrays = {}
        self._square: Arrays = {}

    def step(self, parameters: Arrays, change: Arrays, pace: float = 1.0) -> Arrays:  # noqa: D102
        s = self._settings
        rate = s.learning_rate * pace
        self._steps += 1
        result: Arrays = {}
        for name, x in parameters.items():
            delta = change[name]
            mean = self._mean.get(name, np.zeros_like(delta))
            square = self._square.get(name, np.zeros_like(delta))
            self._mean[name] = s.beta_1 * mean + (1 - s.beta_1) * delta
            self._square[name] = s.beta_2 * square + (1 - s.beta_2) * delta**2
            mean_hat = self._mean[name] / (1 - s.beta_1**self._steps)
            square_hat = self._square[name] / (1 - s.beta_2**self._steps)
            result[name] = x + rate * mean_hat / (np.sqrt(square_hat) + s.epsilon)
        return result

    def state(self) -> Arrays:  # noqa: D102
        steps = {"steps": np.array(float(self._steps))}
        return steps | _joined(mean=self._mean, square=self._square)

    def load_state(self, state: Arrays) -> None:  # noqa: D102
        self._steps = int(state.get("steps", 0))
        self._mean, self._square = _part("mean", state), _part("square", state)


def _joined(**parts: Arrays) -> Arrays:
    return {f"{part}/{name}": x for part, own in parts.items() for name, x in own.items()}


def _part(part: str, state: Arrays) -> Arrays:
    prefix = f"{part}/"
    return {n.removeprefix(prefix): x for n, x in state.items() if n.startswith(prefix)}


def make_server_optimizer(settings: StrategySettings) -> ServerOptimizer:
    """The optimizer that `strategy.optimizer` names."""
    if settings.optimizer == "adam":
        return Adam(settings)
    return Momentum(settings) if settings.optimizer == "momentum" else PlainAverage()
