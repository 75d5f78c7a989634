"""Arrays come through a SuperLink as they were, in one piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from fedmem.core.settings import Settings
from fedmem.messaging import packing
from fedmem.messaging.packing import PACKED, is_packed, pack, pack_messages_of, unpack
from tests.helpers.in_process_grid import InProcessGrid, run_in_process

MakeSettings = Callable[..., Settings]
ARRAYS = ArrayRecord({"w": Array(np.arange(6.0).reshape(2, 3)), "b": Array(np.array([1, 2]))})


@pytest.mark.parametrize("small", [0, 1 << 20])
def test_unpacking_undoes_packing(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "SMALL", small)
    about: dict[str, Any] = {"stage": "s", "ranks": False, "path": ["a", "b"], "paces": [0.5]}
    said = {"change": ARRAYS, "empty": ArrayRecord(), "about": ConfigRecord(about)}
    packed = pack(RecordDict({**said, "loss": MetricRecord({"loss": 0.1 + 0.2})}))
    assert is_packed(packed)
    assert list(packed) == [PACKED]
    assert list(packed.config_records) == ([PACKED] if small else [])
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


def test_what_is_damaged_or_of_another_kind_stays_as_it_is() -> None:
    octets = b"\xff" * 20
    records = [
        ArrayRecord({PACKED: Array(np.frombuffer(octets, np.uint8))}),
        ConfigRecord({PACKED: octets}),
        ConfigRecord({PACKED: "text"}),
        MetricRecord({PACKED: 1.0}),
    ]
    for record in records:
        assert unpack(RecordDict({PACKED: record}))[PACKED] == record


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
