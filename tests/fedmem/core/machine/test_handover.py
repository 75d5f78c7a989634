"""Values that go from process to process come out as they went in, with arrays of their own."""

from __future__ import annotations

import os
import threading
from multiprocessing import Pipe

import numpy as np
import pytest

from fedmem.core.machine.handover import receive, send


def test_arrays_of_any_size_come_out_as_they_went_in_and_can_be_written_to() -> None:
    large = np.arange(1_000_000, dtype=np.float32)  # more than a connection holds
    value = {
        "large": large.reshape(1000, 1000),
        "columns": np.asfortranarray(large[:12].reshape(3, 4)),
        "steps": large[::3],
        "empty": np.zeros((0, 4)),
        "single": np.array(7),
        "words": ["a", None],
    }
    ours, theirs = Pipe()
    thread = threading.Thread(target=send, args=(ours, value))
    thread.start()
    found = receive(theirs)
    thread.join()
    assert list(found) == list(value)
    assert found["words"] == value["words"]
    for name in list(value)[:-1]:
        np.testing.assert_array_equal(found[name], value[name])
        found[name][...] = 1
    assert large[5] == 5
    send(theirs, "and back")
    assert receive(ours) == "and back"


def test_who_ends_in_the_middle_is_noticed() -> None:
    ours, theirs = Pipe()
    ours.send((b"", [1000]))
    os.write(ours.fileno(), bytes(10))
    ours.close()
    with pytest.raises(EOFError):
        receive(theirs)
    with pytest.raises(OSError, match="Broken pipe"):
        send(theirs, 1)
