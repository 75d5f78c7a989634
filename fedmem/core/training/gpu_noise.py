"""Random bytes for dropout, drawn on a GPU: those of `fedmem.core.training.random_streams`.

Drawn by the CPU they are most of what travels to the GPU, a hundred megabytes a round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedmem.core.machine.device import to_device

APART = 64
"""Elements from a stream to the next: those that lie closer share a core and its way to memory."""

WORD = 8
"""Bytes that a generator gives at a time."""

KERNEL = """
template <typename T>
T draw(T element, T about, T noise, T streams, T widths, T apart) {
    if (element % apart) return 0;
    const long long stream = element / apart;
    const unsigned long long* state = (const unsigned long long*)about + 4 * stream;
    const long long length = ((const long long*)about)[4 * streams + stream];
    const long long* offset = (const long long*)about + 5 * streams;
    const long long* width = offset + streams + 1;
    unsigned long long a = state[0], b = state[1], c = state[2], counter = state[3];
    unsigned char* start = (unsigned char*)noise;
    for (int k = 0; k < widths; k++) {
        unsigned long long* own = (unsigned long long*)(start + offset[stream] * width[k]);
        const long long drawn = length * width[k] / 8;
        const long long room = (offset[stream + 1] - offset[stream]) * width[k] / 8;
        for (long long place = 0; place < drawn; place++) {
            const unsigned long long word = a + b + counter++;
            a = b ^ (b >> 11);
            b = c + (c << 3);
            c = ((c << 24) | (c >> 40)) + word;
            own[place] = word;
        }
        for (long long place = drawn; place < room; place++) own[place] = 0;
        start += offset[streams] * width[k];
    }
    return 0;
}
"""
"""SFC64, a stream a thread: [R, 4] states, [R] lengths, [R + 1] offsets and widths lie one after
the other at the address `about`."""


def can_draw(widths: Sequence[int]) -> bool:
    """Whether rows of such tensors begin where words do, however long they are."""
    return all(width % WORD == 0 for width in widths)


def draw_noise(
    states: npt.NDArray[np.uint64],
    lengths: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    widths: Sequence[int],
    device: torch.device,
) -> Tensor:
    """The bytes of `Streams.noise` for all widths, of streams in these states [R, 4] that have no
    half word left, for rows of these lengths [R] that begin at these offsets [R + 1] of positions.

    It is drawn beside what the GPU computes at the moment, by few of its cores: a stream draws word
    by word.
    """
    rows = len(states)
    parts = (
        np.ascontiguousarray(states).view(np.int64).ravel(),
        lengths,
        offsets,
        np.array(widths, np.int64),
    )
    now, beside = torch.cuda.current_stream(device), _stream(device)
    with torch.cuda.stream(beside):
        about = to_device(torch.from_numpy(np.concatenate(parts)), device)
        noise = torch.empty(int(offsets[-1]) * sum(widths), dtype=torch.uint8, device=device)
        addresses = {"about": about.data_ptr(), "noise": noise.data_ptr()}
        sizes = {"streams": rows, "widths": len(widths), "apart": APART}
        _kernel()(torch.arange(rows * APART, device=device), **addresses, **sizes)
    now.wait_stream(beside)
    noise.record_stream(now)
    return noise


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@cache
def _kernel() -> Callable[..., Tensor]:
    made: Callable[..., Tensor] = torch.cuda.jiterator._create_jit_fn(
        KERNEL, about=0, noise=0, streams=0, widths=0, apart=0
    )
    return made
