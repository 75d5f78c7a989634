"""What becomes of memory that is given back: the C library keeps it for whoever asks next.

By itself glibc hands large pieces back to the system, which gives out others, in pages of zeros,
each when it is first touched. Training asks for the same few sizes thousands of times.
"""

from __future__ import annotations

import contextlib
import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Numbers of the two options, as glibc's header of malloc has them."""
LARGEST = 1 << 25
"""Bytes of the largest piece that is kept; glibc allows no more."""
KEPT = 1 << 30
"""Bytes that are kept at the end of the heap."""


def keep_freed_memory() -> None:
    """Let this process, and those that are forked from it, keep what they free; glibc's only."""
    with contextlib.suppress(AttributeError, OSError):
        option = ctypes.CDLL(None).mallopt
        option(MMAP_THRESHOLD, LARGEST)
        option(TRIM_THRESHOLD, KEPT)
