"""Server optimizers against steps computed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedmem.core.settings import Settings
from fedmem.strategies import ServerOptimizer

MakeSettings = Callable[..., Settings]
START = {"w": torch.tensor([1.0, -2.0])}
FIRST = {"w": torch.tensor([0.5, 0.0])}
SECOND = {"w": torch.tensor([-0.25, 1.0])}


def two_steps(settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    optimizer = ServerOptimizer(settings.strategy)
    one = optimizer.step(START, FIRST)
    return one["w"], optimizer.step(one, SECOND)["w"]


def test_none_takes_the_average_as_it_is(make_settings: MakeSettings) -> None:
    one, two = two_steps(make_settings("strategy=fedavg"))
    np.testing.assert_allclose(one, [1.5, -2.0])
    np.testing.assert_allclose(two, [1.25, -1.0])


def test_momentum_carries_on_in_the_old_direction(make_settings: MakeSettings) -> None:
    one, two = two_steps(make_settings("strategy=momentum", "strategy.learning_rate=0.1"))
    np.testing.assert_allclose(one, [1.05, -2.0], rtol=1e-6)
    # velocity: 0.9 * 0.5 - 0.25 = 0.2, and 1.0
    np.testing.assert_allclose(two, [1.07, -1.9], rtol=1e-6)


def test_adam_is_corrected_for_its_start(make_settings: MakeSettings) -> None:
    one, two = two_steps(make_settings("strategy.learning_rate=0.1", "strategy.epsilon=1.0e-8"))
    np.testing.assert_allclose(one, [1.1, -2.0], rtol=1e-6)  # the first step is η · sign
    mean = (0.1 * 0.9 * 0.5 + 0.1 * -0.25) / (1 - 0.9**2)
    square = (0.01 * 0.99 * 0.25 + 0.01 * 0.0625) / (1 - 0.99**2)
    assert two[0] == pytest.approx(1.1 + 0.1 * mean / math.sqrt(square), rel=1e-5)
    mean, square = 0.1 / (1 - 0.9**2), 0.01 / (1 - 0.99**2)
    assert two[1] == pytest.approx(-2.0 + 0.1 * mean / math.sqrt(square), rel=1e-5)


def test_adam_computes_in_an_order_of_its_own_to_the_bit(settings: Settings) -> None:
    own, generator = settings.strategy, np.random.default_rng(0)
    optimizer, found = ServerOptimizer(own), {"w": torch.zeros(1000)}
    x, mean, square = (np.zeros(1000, np.float32) for _ in range(3))
    for step in range(1, 6):
        change = generator.normal(size=1000).astype(np.float32)
        found = optimizer.step(found, {"w": torch.from_numpy(change)}, 0.4)
        mean = own.beta_1 * mean + (1 - own.beta_1) * change
        square = own.beta_2 * square + (1 - own.beta_2) * change**2
        hats = mean / (1 - own.beta_1**step), square / (1 - own.beta_2**step)
        x = x + own.learning_rate * 0.4 * hats[0] / (np.sqrt(hats[1]) + own.epsilon)
    assert np.array_equal(found["w"].numpy(), x)


@pytest.mark.parametrize("name", ["adam", "momentum", "fedavg"])
def test_a_parameter_may_be_a_single_number(name: str, make_settings: MakeSettings) -> None:
    optimizer = ServerOptimizer(make_settings(f"strategy={name}").strategy)
    found = optimizer.step({"w": torch.tensor(1.0)}, {"w": torch.tensor(0.5)})["w"]
    assert found.shape == ()
    assert found > 1


def test_a_parameter_that_never_changes_stays_bit_identical(make_settings: MakeSettings) -> None:
    optimizer = ServerOptimizer(make_settings().strategy)
    row = {"w": torch.zeros(3)}
    assert not optimizer.step(row, row)["w"].any()


@pytest.mark.parametrize("name", ["adam", "momentum"])
def test_the_pace_multiplies_the_step(name: str, make_settings: MakeSettings) -> None:
    settings = make_settings(f"strategy={name}").strategy
    whole = ServerOptimizer(settings).step(START, FIRST)["w"] - START["w"]
    slowed = ServerOptimizer(settings).step(START, FIRST, 0.25)["w"] - START["w"]
    np.testing.assert_allclose(slowed, whole / 4, rtol=1e-3)


@pytest.mark.parametrize("name", ["adam", "momentum", "fedavg"])
def test_one_that_takes_over_the_state_goes_on_bit_for_bit(
    name: str, make_settings: MakeSettings
) -> None:
    settings = make_settings(f"strategy={name}").strategy
    generator = np.random.default_rng(0)
    changes = [{"w": torch.from_numpy(generator.normal(size=5)).float()} for _ in range(4)]
    undisturbed = ServerOptimizer(settings)
    expected = {"w": torch.zeros(5)}
    for change in changes:
        expected = undisturbed.step(expected, change)
    found, state = {"w": torch.zeros(5)}, ServerOptimizer(settings).state
    for change in changes:
        optimizer = ServerOptimizer(settings, state)
        assert optimizer.state.keys() == state.keys()
        found, state = optimizer.step(found, change), optimizer.state
    assert torch.equal(found["w"], expected["w"])


def test_a_lazy_adam_steps_along_rows_that_changed_and_leaves_the_others(
    make_settings: MakeSettings,
) -> None:
    asked = ("strategy.learning_rate=0.1",)
    lazy = ServerOptimizer(make_settings(*asked, "strategy.lazy=true").strategy)
    usual = ServerOptimizer(make_settings(*asked).strategy)
    start = {"w": torch.ones(3, 2), "b": torch.ones(2)}
    change = {"w": torch.tensor([[0.5, 0.0], [0.0, 0.0], [-1.0, 2.0]]), "b": torch.zeros(2)}
    one, same = lazy.step(start, change), usual.step(start, change)
    assert torch.equal(one["w"], same["w"])  # the first step is along what changed
    rest = {"w": torch.zeros(3, 2), "b": torch.zeros(2)}
    rest["w"][0, 0] = 0.5
    two = lazy.step(one, rest)
    assert torch.equal(two["w"][1:], one["w"][1:])
    assert torch.equal(two["w"][0], usual.step(same, rest)["w"][0])
    assert torch.equal(lazy.state["w/exp_avg"][2], 0.1 * change["w"][2])


@pytest.mark.parametrize("name", ["adam", "momentum", "fedavg"])
@pytest.mark.parametrize("lazy", ["true", "false"])
def test_in_place_or_beside_the_bits_are_the_same_and_beside_nothing_is_written_to(
    name: str, lazy: str, make_settings: MakeSettings
) -> None:
    settings = make_settings(f"strategy={name}", f"strategy.lazy={lazy}").strategy
    generator = torch.Generator().manual_seed(0)
    start = {"w": torch.randn(6, 3, generator=generator), "b": torch.randn(3, generator=generator)}
    beside = ServerOptimizer(settings)
    place = ServerOptimizer(settings, in_place=True)
    found, written = start, {each: value.clone() for each, value in start.items()}
    kept = []
    for _ in range(3):
        change = {n: torch.randn(value.shape, generator=generator) for n, value in start.items()}
        change["w"][::2] = 0
        found, written = beside.step(found, change), place.step(written, change)
        kept.append(({**found, **beside.state}, {}))
        kept[-1][1].update({each: value.clone() for each, value in kept[-1][0].items()})
        assert all(torch.equal(written[each], value) for each, value in found.items())
        assert all(torch.equal(place.state[each], x) for each, x in beside.state.items())
    for held, then in kept:
        assert all(torch.equal(value, then[each]) for each, value in held.items())
