"""Values from one process of this machine to another: what their arrays hold is copied once.

A pickle of protocol 5 leaves arrays where they are (PEP 574). They follow it through the connection
as they lie in memory, into memory of their own.
"""

from __future__ import annotations

import os
import pickle
from multiprocessing.connection import Connection
from typing import Any

import numpy as np


def send(connection: Connection, value: object) -> None:
    """Send a value that can be pickled.

    Raises:
        OSError: nobody receives it.
    """
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    connection.send((pickled, [view.nbytes for view in views]))
    for view in views:
        while len(view):
            view = view[os.write(connection.fileno(), view) :]


def receive(connection: Connection) -> Any:
    """What `send` sends; its arrays are nobody else's.

    Raises:
        EOFError, OSError: nobody is left who could send.
    """
    pickled, sizes = connection.recv()
    arrays = [np.empty(size, np.uint8) for size in sizes]
    for array in arrays:
        view = array.data
        while len(view):
            count = os.readv(connection.fileno(), [view])
            if not count:
                raise EOFError
            view = view[count:]
    return pickle.loads(pickled, buffers=arrays)
