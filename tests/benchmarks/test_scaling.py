"""Memory is that of all processes below this one."""

from __future__ import annotations

import subprocess
import sys

from scaling import SAMPLE_SECONDS, PeakMemory

MEGABYTES = 64
HOLD = f"import time; x = bytearray(b'1') * ({MEGABYTES} << 20); time.sleep({4 * SAMPLE_SECONDS})"
BELOW = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD!r}])"


def test_the_memory_of_a_process_below_a_process_counts() -> None:
    peak = PeakMemory()
    with peak.watched():
        subprocess.run([sys.executable, "-c", BELOW], check=True)
    assert MEGABYTES << 20 < peak.bytes < 3 * MEGABYTES << 20
