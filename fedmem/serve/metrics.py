"""Figures of the server in the text form of Prometheus.

They count requests by route, never by what was asked: nothing of a history is in them.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict

import psutil

BOUNDS = (0.005, 0.01, 0.015, 0.025, 0.04, 0.1, 0.25, 1.0, 5.0)
"""Upper bounds of the histogram of seconds."""


class Metrics:
    """Counts requests and the time that they took."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str, int], int] = defaultdict(int)
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = defaultdict(float)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; the route is a pattern, such as `/memory/{user}`."""
        with self._lock:
            self._requests[method, route, status] += 1
            buckets = self._buckets.setdefault(route, [0] * (len(BOUNDS) + 1))
            buckets[bisect_left(BOUNDS, seconds)] += 1
            self._seconds[route] += seconds

    def text(self, gauges: dict[str, tuple[str, float]]) -> str:
        """All figures; `gauges` are further ones by name, each with what it means."""
        lines = _head("fedmem_requests_total", "counter", "Requests that were answered.")
        with self._lock:
            for (method, route, status), count in sorted(self._requests.items()):
                labels = f'method="{method}",route="{route}",status="{status}"'
                lines.append(f"fedmem_requests_total{{{labels}}} {count}")
            lines += _head("fedmem_request_seconds", "histogram", "Time from request to answer.")
            for route, buckets in sorted(self._buckets.items()):
                total = 0
                for bound, count in zip([*map(str, BOUNDS), "+Inf"], buckets, strict=True):
                    total += count
                    labels = f'route="{route}",le="{bound}"'
                    lines.append(f"fedmem_request_seconds_bucket{{{labels}}} {total}")
                lines.append(
                    f'fedmem_request_seconds_sum{{route="{route}"}} {self._seconds[route]:.6f}'
                )
                lines.append(f'fedmem_request_seconds_count{{route="{route}"}} {total}')
        resident = psutil.Process().memory_info().rss
        gauges = {**gauges, "process_resident_memory_bytes": ("Resident memory.", resident)}
        for name, (meaning, value) in gauges.items():
            lines += [*_head(name, "gauge", meaning), f"{name} {value:.10g}"]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
