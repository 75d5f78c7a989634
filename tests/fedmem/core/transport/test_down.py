"""The server's changes are rounded, what rounding leaves is owed, and missed steps are found."""

from __future__ import annotations

import pytest
import torch

from fedmem.core.model.parameters import Parameters
from fedmem.core.training.batches import RoundKey
from fedmem.core.transport.codec import Codec, shapes_of, values_of
from fedmem.core.transport.down import ChangeCoder, Step, Steps, joined, parted, size_of
from tests.helpers.settings import composed

SIZES = {"w": torch.zeros(8, 32), "b": torch.zeros(32)}


def codec(name: str) -> Codec:
    return Codec(composed(f"transport={name}").transport)


def change(number: int) -> Parameters:
    generator = torch.Generator().manual_seed(number)
    return {name: torch.randn(x.shape, generator=generator) for name, x in SIZES.items()}


def key(number: int) -> RoundKey:
    return RoundKey(0, "s", number)


@pytest.mark.parametrize("name", ["int8", "int4", "coded", "signs"])
def test_both_sides_see_the_same_change(name: str) -> None:
    coder = ChangeCoder(codec(name), {})
    for number in (1, 2, 3):
        taken, payload = coder(change(number), key(number))
        received = values_of(codec(name).from_bytes(payload, shapes_of(SIZES)))
        assert all(torch.equal(received[each], value) for each, value in taken.items())


def test_what_is_owed_is_what_was_wanted_and_not_taken() -> None:
    coder = ChangeCoder(codec("signs"), {})
    taken = [coder(change(number), key(number))[0] for number in range(1, 41)]
    for name in SIZES:
        wanted = sum(change(number)[name] for number in range(1, 41))
        total = sum(each[name] for each in taken) + coder.owed[name]
        torch.testing.assert_close(total, wanted, atol=1e-4, rtol=0)


def test_another_process_goes_on_with_what_is_owed() -> None:
    whole, first = ChangeCoder(codec("coded"), {}), ChangeCoder(codec("coded"), {})
    for number in range(1, 6):
        whole(change(number), key(number))
        first(change(number), key(number))
    second = ChangeCoder(codec("coded"), first.owed)
    assert second(change(6), key(6))[1] == whole(change(6), key(6))[1]


def test_what_one_node_has_rounded_is_not_rounded_again() -> None:
    for name in ("coded", "signs"):
        once, _ = ChangeCoder(codec(name), {})(change(1), key(1))
        again = {each: value.clone() for each, value in once.items()}
        twice, _ = ChangeCoder(codec(name), {})(again, key(2))
        for each, value in once.items():
            assert value.dim() < 2 or torch.equal(twice[each], value)


def walked(count: int, size: int = 10, full: int = 45) -> Steps:
    steps = Steps()
    for number in range(count):
        steps.append(Step(f"h{number}", f"h{number + 1}", 1.0, bytes(size)), full)
    return steps


def test_a_node_that_has_missed_steps_is_sent_these() -> None:
    path = walked(4).path("h1", "h4")
    assert path is not None
    assert [(step.before, step.after) for step in path] == [
        ("h1", "h2"), ("h2", "h3"), ("h3", "h4")
    ]  # fmt: skip
    assert walked(4).path("h4", "h4") == []
    assert walked(0).path("best", "best") == []


def test_a_node_that_has_missed_more_than_a_full_copy_has_no_path() -> None:
    steps = walked(9)
    assert steps.path("h4", "h9") is None
    assert len(steps.path("h5", "h9") or []) == 4


def test_what_nobody_knows_has_no_path() -> None:
    steps = walked(3)
    assert steps.path(None, "h3") is None
    assert steps.path("another", "h3") is None
    assert steps.path("h3", "h0") is None  # there is no way back
    steps.append(Step("elsewhere", "e1", 1.0, b""), 45)
    assert steps.path("h0", "h3") is None


def test_what_is_held_has_parameters_and_the_state_of_the_optimizer() -> None:
    state = {"w/exp_avg": torch.ones(8, 32), "w/step": torch.tensor(3)}
    held = joined(SIZES, state)
    assert parted(held)[0].keys() == SIZES.keys()
    assert parted(held)[1].keys() == state.keys()
    assert size_of(held) == 2 * 4 * 8 * 32 + 4 * 32 + 8
