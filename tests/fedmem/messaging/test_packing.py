"""Arrays come through a SuperLink as they were, in one piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedmem.core.settings import Settings
from fedmem.messaging.packing import PACKED, is_packed, pack, pack_messages_of, unpack
from tests.helpers.in_process_grid import InProcessGrid, run_in_process

MakeSettings = Callable[..., Settings]
ARRAYS = ArrayRecord({"w": Array(np.arange(6.0).reshape(2, 3)), "b": Array(np.array([1, 2]))})


def test_unpacking_undoes_packing() -> None:
    about: dict[str, Any] = {"stage": "s", "ranks": False, "path": ["a", "b"], "paces": [0.5]}
    said = {"change": ARRAYS, "empty": ArrayRecord(), "about": ConfigRecord(about)}
    packed = pack(RecordDict({**said, "loss": MetricRecord({"loss": 0.1 + 0.2})}))
    assert is_packed(packed)
    assert list(packed) == [PACKED]
    back = unpack(packed)
    assert set(back) == {*said, "loss"}
    assert dict(back.config_records["about"]) == about
    assert dict(back.metric_records["loss"]) == {"loss": 0.1 + 0.2}
    assert list(back.array_records["change"]) == ["w", "b"]
    assert not back.array_records["empty"]
    for name, array in ARRAYS.items():
        found = back.array_records["change"][name]
        np.testing.assert_array_equal(found.numpy(), array.numpy())
        assert found.dtype == array.dtype
    assert not is_packed(back)


def test_what_is_damaged_stays_as_it_is() -> None:
    damaged = ArrayRecord({PACKED: Array(np.frombuffer(b"\xff" * 20, np.uint8))})
    assert set(unpack(RecordDict({PACKED: damaged})).array_records[PACKED]) == {PACKED}


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
    assert len(kept) > 12
    assert all(is_packed(content) for content in kept)
