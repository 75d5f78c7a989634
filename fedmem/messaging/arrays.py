"""Arrays of a message as Flower's, and as bytes only where bytes are asked for.

Flower makes the bytes of a file of every array, and an array of them again. Between two processes
of one machine neither is needed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord

NUMPY = "numpy.ndarray"
"""How Flower names the form of these bytes."""


class HeldArray(Array):
    """An array that is held as it is. Its bytes are those that Flower would make of it.

    Args:
        array: it must not change from now on.
        own: whether nobody else holds it, so that `numpy` need not make a copy.
    """

    def __init__(self, array: npt.NDArray[Any], own: bool = False) -> None:
        self.dtype, self.shape, self.stype = str(array.dtype), tuple(array.shape), NUMPY
        self._array, self._own = array, own and array.flags.writeable

    def __getattr__(self, name: str) -> Any:
        if name != "data":
            raise AttributeError(name)
        self.data = Array(self._array).data
        return self.data

    def __reduce__(self) -> tuple[Any, ...]:
        return HeldArray, (self._array, True)

    def numpy(self) -> npt.NDArray[Any]:
        """The array, to do with as one likes; where it came from another process, there is one."""
        return self._array if self._own else self._array.copy()

    def deflate(self) -> bytes:
        """What Flower's own would give to a SuperLink."""
        deflated: bytes = Array(self.dtype, self.shape, self.stype, self.data).deflate()
        return deflated

    @property
    def size(self) -> int:
        """Bytes that Flower would make of it."""
        fortran = self._array.flags.f_contiguous and not self._array.flags.c_contiguous
        return _header(self.dtype, self.shape, fortran) + self._array.nbytes


def held(arrays: Mapping[str, npt.NDArray[Any]]) -> ArrayRecord:
    """Arrays by name as a record of such."""
    record = ArrayRecord()
    for name, array in arrays.items():  # one by one: Flower copies those of a dictionary
        record[name] = HeldArray(array)
    return record


@lru_cache(maxsize=1024)
def _header(dtype: str, shape: tuple[int, ...], fortran: bool) -> int:
    """Bytes that NumPy's format of files has before an array."""
    # One number that is repeated takes no memory.
    like = np.broadcast_to(np.zeros((), dtype), shape)
    head = np.lib.format.header_data_from_array_1_0(like) | {"fortran_order": fortran}
    written = io.BytesIO()
    np.lib.format.write_array_header_1_0(written, head)
    return written.tell()


def bytes_of(array: Array) -> int:
    """Bytes of an array of a message."""
    return array.size if isinstance(array, HeldArray) else len(array.data)
