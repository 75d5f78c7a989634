"""What rounding leaves of a node's updates is not lost, and a round that is run again finds it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedmem.core.errors import FedmemError
from fedmem.core.model.parameters import Parameters
from fedmem.core.training.batches import RoundKey
from fedmem.core.transport.codec import Codec, shapes_of, values_of
from fedmem.core.transport.up import KEPT, Remainders, code_update
from fedmem.core.updates.update import Update
from tests.helpers.settings import composed

CODED = Codec(composed("transport=signs").transport)


def change_of(number: int) -> Parameters:
    generator = torch.Generator().manual_seed(number)
    return {
        "w": torch.randn(6, 32, generator=generator),
        "b": torch.randn(32, generator=generator),
    }


def sent(number: int, remainders: Remainders | None, codec: Codec = CODED, **changes: int) -> bytes:
    update = Update(change_of(number), **{"weight": 5, "users": 2, **changes}, loss=1.0)
    return code_update(update, codec, RoundKey(0, "s", number), "node of user 0", remainders)


def received(data: bytes, codec: Codec = CODED) -> Parameters:
    return values_of(codec.from_bytes(data, shapes_of(change_of(0))))


def test_nothing_is_lost_over_the_rounds(tmp_path: Path) -> None:
    remainders = Remainders(tmp_path, "run")
    rounds = range(1, 30)
    arrived = [received(sent(number, remainders)) for number in rounds]
    left = remainders.before(30)
    for name in ("w", "b"):
        total = sum(change_of(number)[name] for number in rounds)
        travelled = sum(each[name] for each in arrived)
        torch.testing.assert_close(travelled + left[name], total, atol=1e-4, rtol=0)
        assert left[name].abs().max() < 12  # it does not grow with the rounds


def test_a_round_that_is_run_again_gives_the_same_bytes(tmp_path: Path) -> None:
    remainders = Remainders(tmp_path, "run")
    first = [sent(number, remainders) for number in (1, 2, 5, 6)]
    for again in ((6,), (5, 6)):  # the last that ended, and one more
        remainders = Remainders(tmp_path, "run")
        assert [sent(n, remainders) for n in again] == first[-len(again) :]


def test_the_remainders_of_a_few_rounds_are_kept_and_no_others(tmp_path: Path) -> None:
    Remainders(tmp_path, "other").put(9, change_of(0))
    remainders = Remainders(tmp_path, "run")
    assert remainders.before(10) == {}
    for number in range(1, 8):
        remainders.put(number, change_of(number))
    assert len(list(tmp_path.iterdir())) == KEPT
    assert torch.equal(remainders.before(8)["w"], change_of(7)["w"])
    assert torch.equal(remainders.before(7)["w"], change_of(6)["w"])
    remainders.put(2, change_of(2))  # another run under the same key began anew
    assert [path.name for path in tmp_path.iterdir()] == ["remainder-run-2.safetensors"]


def test_what_was_left_before_something_was_forgotten_is_dropped(tmp_path: Path) -> None:
    before = Remainders(tmp_path, "run", "one")
    for number in (1, 2):
        sent(number, before)
    assert before.before(3)
    after = Remainders(tmp_path, "run", "two")
    assert sent(3, after) == sent(3, Remainders(tmp_path / "empty", "run"))
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["remainder-run-3.safetensors"]
    assert after.before(4)


def test_an_update_that_nobody_takes_leaves_nothing_and_takes_nothing(tmp_path: Path) -> None:
    remainders = Remainders(tmp_path, "run")
    sent(1, remainders)
    before = remainders.before(2)
    assert sent(2, remainders, weight=0) == sent(2, None)
    assert torch.equal(remainders.before(3)["w"], before["w"])


def test_what_is_not_finite_is_not_carried_on(tmp_path: Path) -> None:
    remainders = Remainders(tmp_path, "run")
    change = change_of(1)
    change["w"][0, 0] = torch.nan
    update = Update(change, weight=5, loss=1.0, users=2)
    code_update(update, CODED, RoundKey(0, "s", 1), "node", remainders)
    assert all(value.isfinite().all() for value in remainders.before(2).values())


def test_a_damaged_remainder_is_named(tmp_path: Path) -> None:
    remainders = Remainders(tmp_path, "run")
    sent(1, remainders)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(FedmemError, match=r"remainder-run-1\.safetensors is damaged"):
        sent(2, remainders)


def test_without_feedback_nothing_is_kept_and_nodes_round_each_their_own_way() -> None:
    codec = Codec(composed("transport=int4").transport)
    update = Update(change_of(1), weight=5, loss=1.0, users=2)
    key = RoundKey(0, "s", 1)
    first, second = (code_update(update, codec, key, who) for who in ("node 0", "node 1"))
    assert first != second
    assert code_update(update, codec, key, "node 0") == first
