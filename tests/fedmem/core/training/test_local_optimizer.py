"""What local steps make of gradients, by hand and beside torch's own optimizers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedmem.core.settings import Settings
from fedmem.core.training.local_optimizer import AdamSteps, Descent, make_local_optimizer

GRADIENTS = [[torch.tensor([1.0, -2.0]), torch.tensor([[4.0]])] for _ in range(2)]


def copies(step: int) -> list[torch.Tensor]:
    """Gradients of a step, which an optimizer may take over."""
    return [gradient.clone() for gradient in GRADIENTS[step]]


def test_descent_is_the_rate_times_the_sum_of_the_gradients() -> None:
    optimizer = Descent(0.5)
    first = [change.tolist() for change in optimizer.step(copies(0), divisor=2)]
    assert first == [[-0.25, 0.5], [[-1.0]]]
    second = [change.tolist() for change in optimizer.step(copies(1))]
    assert second == [[-0.75, 1.5], [[-3.0]]]


def test_adam_steps_are_those_of_torch_on_parameters() -> None:
    parameters = [torch.zeros(2, requires_grad=True), torch.zeros(1, 1, requires_grad=True)]
    torchs, ours = torch.optim.Adam(parameters, lr=0.1), AdamSteps(0.1)
    for step, divisor in enumerate((2, 4)):
        for parameter, gradient in zip(parameters, copies(step), strict=True):
            parameter.grad = gradient / divisor
        torchs.step()
        change = ours.step(copies(step), divisor)
    for found, parameter in zip(change, parameters, strict=True):
        torch.testing.assert_close(found, parameter.detach())


@pytest.mark.parametrize("kind", [Descent, AdamSteps])
def test_the_change_stays_where_it_is(kind: type[Descent | AdamSteps]) -> None:
    optimizer = kind(0.1)
    first, second = optimizer.step(copies(0)), optimizer.step(copies(1))
    assert [x.data_ptr() for x in first] == [x.data_ptr() for x in second]


@pytest.mark.parametrize(("name", "kind"), [("sgd", Descent), ("adam", AdamSteps)])
def test_the_setting_names_the_optimizer(
    name: str, kind: type[Descent | AdamSteps], settings: Settings
) -> None:
    client = replace(settings.client, optimizer=name)
    assert isinstance(make_local_optimizer(client), kind)
