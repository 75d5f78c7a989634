"""Arrays that are held as they are: Flower's bytes where they are asked for, and no others."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict

from fedmem.messaging.arrays import HeldArray, bytes_of, held
from fedmem.messaging.packing import pack, unpack

ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(10, dtype=np.int32)[::2],
    np.array(0.5),
    np.zeros((0, 128), np.float32),
    np.zeros((1_000, 12_345), np.uint8),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.shape))
def test_it_is_flowers_array_of_the_same_bytes(array: np.ndarray) -> None:
    held, flowers = HeldArray(array), Array(array)
    assert bytes_of(held) == bytes_of(flowers) == len(flowers.data)
    assert "data" not in vars(held)
    np.testing.assert_array_equal(held.numpy(), array)
    assert (held.dtype, held.shape, held.stype) == (flowers.dtype, flowers.shape, flowers.stype)
    assert held.data == flowers.data
    assert held.object_id == flowers.object_id


def test_a_reader_gets_a_copy_but_of_what_came_from_another_process() -> None:
    array = np.zeros(3)
    held = HeldArray(array)
    held.numpy()[0] = 1
    assert array[0] == 0
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(held, protocol=5, buffer_callback=buffers.append)
    own = bytearray(buffers[0].raw())
    came = pickle.loads(pickled, buffers=[own])
    assert came.numpy() is came.numpy()
    read_only = pickle.loads(pickled, buffers=[bytes(own)])  # as Ray hands arrays over
    read_only.numpy()[0] = 1
    with pytest.raises(AttributeError):
        held.other  # noqa: B018


def test_it_travels_through_a_superlink_as_others_do() -> None:
    packed = pack(RecordDict({"scope": held({"w": ARRAYS[0]})}))
    assert packed == pack(RecordDict({"scope": ArrayRecord({"w": Array(ARRAYS[0])})}))
    back = unpack(packed).array_records["scope"]["w"]
    np.testing.assert_array_equal(back.numpy(), ARRAYS[0])
