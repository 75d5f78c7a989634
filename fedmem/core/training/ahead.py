"""Batches made in a thread while the device computes on the ones before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

AHEAD = {"cpu": 0, "cuda": 1}
"""Batches that are made before they are asked for. A CPU has no hands free for it."""


def made_ahead(make: Callable[[T], R], each: Iterable[T], device: torch.device) -> Iterator[R]:
    """`map`, the next results made meanwhile by one thread, in order: the same results.

    What a thread puts on a GPU goes through the stream of the thread that asks for it, so that
    copies and computations stay in order. An error comes where its result would have.
    """
    count = AHEAD[device.type]
    if not count:
        yield from map(make, each)
        return
    stream = torch.cuda.current_stream(device) if device.type == "cuda" else None

    def make_there(one: T) -> R:
        with torch.cuda.stream(stream):
            return make(one)

    todo = iter(each)
    made = deque(_thread().submit(make_there, one) for one in islice(todo, count))
    while made:
        made.extend(_thread().submit(make_there, one) for one in islice(todo, 1))
        yield made.popleft().result()


@lru_cache(maxsize=1)
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "batches")
