"""Arrays come through a SuperLink as they were, in one piece."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict

from fedmem.core.settings import Settings
from fedmem.messaging.packing import PACKED, is_packed, pack, pack_messages_of, unpack
from tests.helpers.in_process_grid import InProcessGrid, run_in_process

MakeSettings = Callable[..., Settings]
ARRAYS = ArrayRecord({"w": Array(np.arange(6.0).reshape(2, 3)), "b": Array(np.array([1, 2]))})


def test_unpacking_undoes_packing() -> None:
    packed = pack(RecordDict({"change": ARRAYS, "empty": ArrayRecord()}))
    assert is_packed(packed)
    assert set(packed.array_records["change"]) == {PACKED}
    back = unpack(packed).array_records
    assert list(back) == ["change", "empty"]
    assert list(back["change"]) == ["w", "b"]
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(back["change"][name].numpy(), array.numpy())
        assert back["change"][name].dtype == array.dtype
    assert not is_packed(unpack(packed))


def test_what_is_damaged_stays_as_it_is() -> None:
    damaged = ArrayRecord({PACKED: Array(np.frombuffer(b"\xff" * 20, np.uint8))})
    assert set(unpack(RecordDict({"change": damaged})).array_records["change"]) == {PACKED}


def test_a_run_is_the_same_whether_its_messages_are_packed(make_settings: MakeSettings) -> None:
    plain, _, _ = run_in_process(make_settings())
    kept = []

    def look_at(reply: Message) -> Message:
        kept.append(reply.content)
        return reply

    grid = InProcessGrid(2, look_at)
    pack_messages_of(grid)
    packed, _, _ = run_in_process(make_settings(), grid)
    assert [result.test for result in packed] == [result.test for result in plain]
    assert [result.bytes_up for result in packed] == [result.bytes_up for result in plain]
    changes = [content["change"] for content in kept if "change" in content]
    assert len(changes) == 12
    assert all(set(change) == {PACKED} for change in changes)
