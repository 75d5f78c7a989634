"""What an optimizer keeps, saved and gone on from."""

from __future__ import annotations

import torch

from fedmem.core.training.optimizer_state import load_optimizer_state, optimizer_state


def adam(device: str = "cpu") -> tuple[torch.optim.Optimizer, dict[str, torch.Tensor]]:
    parameters = {"one": torch.zeros(2, 3), "two": torch.zeros(4)}
    parameters = {n: x.to(device).requires_grad_() for n, x in parameters.items()}
    return torch.optim.Adam(parameters.values(), lr=0.1), parameters


def step(optimizer: torch.optim.Optimizer, parameters: dict[str, torch.Tensor]) -> None:
    for parameter in parameters.values():
        parameter.grad = torch.arange(parameter.numel(), dtype=torch.float).view_as(parameter)
    optimizer.step()


def test_an_optimizer_goes_on_where_another_left_off() -> None:
    first, others = adam()
    step(first, others)
    second, parameters = adam()
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(others[name])
    kept = optimizer_state(first, others)
    assert set(kept) >= {"one/exp_avg", "two/exp_avg_sq", "two/step"}
    load_optimizer_state(second, parameters, kept | {"gone/exp_avg": torch.zeros(1)})
    for optimizer, trained in ((first, others), (second, parameters)):
        step(optimizer, trained)
    for name, value in parameters.items():
        assert torch.equal(value, others[name])
    assert torch.equal(kept["two/step"], torch.tensor(1.0))  # a copy, which no step changes


def test_moments_are_where_the_parameters_are_and_counts_on_the_cpu() -> None:
    first, others = adam()
    step(first, others)
    second, elsewhere = adam("meta")
    load_optimizer_state(second, elsewhere, optimizer_state(first, others))
    for parameter in elsewhere.values():
        devices = {key: value.device.type for key, value in second.state[parameter].items()}
        assert devices == {"exp_avg": "meta", "exp_avg_sq": "meta", "step": "cpu"}
