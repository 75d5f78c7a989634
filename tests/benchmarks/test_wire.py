"""A wire passes packets on as they are, in order, both ways."""

from __future__ import annotations

import socket
import threading

from wire import pass_on


def test_packets_arrive_whole_and_in_order() -> None:
    (one, its), (other, theirs) = (
        socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)
    )
    ends = (its.fileno(), theirs.fileno())
    threading.Thread(target=pass_on, args=(ends, 0.005), daemon=True).start()
    sent = [bytes([number]) * (1 + 70 * number) for number in range(20)]
    for packet in sent:
        one.send(packet)
        other.send(packet[::-1] + b"back")
    assert [other.recv(2000) for _ in sent] == sent
    assert [one.recv(2000) for _ in sent] == [packet[::-1] + b"back" for packet in sent]
    its.detach()  # the thread goes on to wait here
    theirs.detach()
