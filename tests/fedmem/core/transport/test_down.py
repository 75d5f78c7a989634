"""Both sides take the same rounded steps, and what rounding leaves is owed."""

from __future__ import annotations

import pytest
import torch

from fedmem.core.model.parameters import Parameters, content_hash
from fedmem.core.training.batches import RoundKey
from fedmem.core.transport.codec import Codec
from fedmem.core.transport.down import StepCoder, size_of, take_step
from tests.helpers.settings import composed


def codec(name: str) -> Codec:
    return Codec(composed(f"transport={name}").transport)


def parameters(number: int) -> Parameters:
    generator = torch.Generator().manual_seed(number)
    return {
        "w": torch.randn(8, 32, generator=generator),
        "b": torch.randn(32, generator=generator),
    }


def walk(steps: StepCoder, rounds: int) -> list[Parameters]:
    """Where both sides are after each round, of which the server steps by `parameters`."""
    places = [parameters(0)]
    for number in range(1, rounds + 1):
        wanted = {n: v + 0.01 * parameters(number)[n] for n, v in places[-1].items()}
        places.append(steps.step(places[-1], wanted, RoundKey(0, "s", number)))
    return places


@pytest.mark.parametrize("name", ["int8", "int4", "coded"])
def test_a_node_that_takes_the_steps_holds_the_bits_of_the_server(name: str) -> None:
    steps = StepCoder(codec(name))
    places = walk(steps, 5)
    path = steps.path(content_hash(places[2]), content_hash(places[5]))
    assert path is not None
    assert [step.before for step in path] == [content_hash(place) for place in places[2:5]]
    held = places[2]
    for step in path:
        held = take_step(held, step.payload, codec(name))
        assert content_hash(held) == step.after
    assert content_hash(held) == content_hash(places[5])


def test_what_is_owed_is_what_was_wanted_and_not_taken() -> None:
    steps = StepCoder(codec("coded"))
    places = walk(steps, 40)
    for name in ("w", "b"):
        wanted = places[0][name] + sum(0.01 * parameters(n)[name] for n in range(1, 41))
        torch.testing.assert_close(places[-1][name] + steps.owed[name], wanted, atol=1e-5, rtol=0)


def test_another_process_goes_on_with_what_is_owed() -> None:
    whole = StepCoder(codec("coded"))
    places = walk(whole, 6)
    first = StepCoder(codec("coded"))
    walk(first, 5)
    second = StepCoder(codec("coded"), first.owed)
    wanted = {n: v + 0.01 * parameters(6)[n] for n, v in places[5].items()}
    reached = second.step(places[5], wanted, RoundKey(0, "s", 6))
    assert content_hash(reached) == content_hash(places[6])


def test_float32_goes_where_the_optimizer_does() -> None:
    steps = StepCoder(codec("float32"))
    after = parameters(1)
    assert steps.step(parameters(0), after, RoundKey(0, "s", 1)) is after
    assert steps.owed == {}
    assert steps.path(None, "") is None


def test_a_node_that_has_missed_more_than_a_full_copy_has_no_path() -> None:
    steps = StepCoder(codec("int8"))
    places = [content_hash(place) for place in walk(steps, 8)]
    kept = [steps.path(place, places[-1]) for place in places]
    assert kept[-1] == []
    assert [len(path) for path in kept[-3:-1] if path] == [2, 1]
    assert kept[0] is None
    longest = max((path for path in kept if path), key=len)
    assert sum(len(step.payload) for step in longest) <= size_of(parameters(0))


def test_parameters_that_nobody_knows_have_no_path() -> None:
    steps = StepCoder(codec("coded"))
    places = [content_hash(place) for place in walk(steps, 3)]
    assert steps.path(None, places[-1]) is None
    assert steps.path("another", places[-1]) is None
    assert steps.path(places[-1], places[0]) is None  # there is no way back
    assert steps.path("best", "best") == []
