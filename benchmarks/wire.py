"""A wire between two network namespaces, on which packets take a while.

    python benchmarks/wire.py NAMESPACE DEVICE NAMESPACE DEVICE MILLISECONDS

Makes a TUN device in each of two namespaces and passes packets from one to the other, in order, so
many milliseconds after each arrived; prints a line when it does, and ends by a signal. It stands in
for `netem`, which many kernels lack.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import struct
import sys
import time
from collections import deque
from pathlib import Path

from fedmem.core.console import say

NEW_NETWORK = 0x40000000  # CLONE_NEWNET, setns(2)
SET_DEVICE, TUN_WITHOUT_HEADER = 0x400454CA, 0x1001  # TUNSETIFF; IFF_TUN | IFF_NO_PI
LONGEST_PACKET = 65_535


def open_device(namespace: str, device: str) -> int:
    """The descriptor of a new TUN device in a namespace.

    Raises:
        OSError: there is no such namespace, or this is not root.
    """
    with Path(f"/run/netns/{namespace}").open("rb") as place:
        if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), NEW_NETWORK):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    opened = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(opened, SET_DEVICE, struct.pack("16sH22x", device.encode(), TUN_WITHOUT_HEADER))
    return opened


def pass_on(ends: tuple[int, int], delay: float) -> None:
    """Pass packets between the ends of a wire, each so many seconds later, for ever."""
    under_way: dict[int, deque[tuple[float, bytes]]] = {end: deque() for end in ends}
    other = dict(zip(ends, reversed(ends), strict=True))
    while True:
        dues = [packets[0][0] for packets in under_way.values() if packets]
        wait = max(0.0, min(dues) - time.monotonic()) if dues else None
        arrived, _, _ = select.select(ends, (), (), wait)
        now = time.monotonic()
        for end in arrived:
            under_way[other[end]].append((now + delay, os.read(end, LONGEST_PACKET)))
        for end, packets in under_way.items():
            while packets and packets[0][0] <= now:
                with contextlib.suppress(OSError):  # where the end is down, packets are lost
                    os.write(end, packets.popleft()[1])


def main() -> None:
    """The command."""
    one, its, other, theirs, milliseconds = sys.argv[1:]
    ends = open_device(one, its), open_device(other, theirs)
    say("ready")
    pass_on(ends, float(milliseconds) / 1e3)


if __name__ == "__main__":
    main()
