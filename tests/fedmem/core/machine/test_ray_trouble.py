"""Each cause of a simulation that does not start has advice of its own."""

from __future__ import annotations

import pytest

from fedmem.core.machine.ray_trouble import PROXIES, ROOM, trouble


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError("AF_UNIX path length cannot exceed 107 bytes: /x"), "set RAY_TMPDIR=/tmp"),
        (PermissionError(13, "Permission denied", "/tmp/ray"), "a folder of your own"),
        (OSError(30, "Read-only file system"), "below /short: set RAY_TMPDIR"),
        (OSError(28, "No space left on device"), "free room there"),
        (OSError(24, "Too many open files"), "ulimit -n"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (OSError("[Errno -2] Name or service not known"), "/etc/hosts"),
        (RuntimeError("The current node timed out during startup."), ROOM),
        (RuntimeError("it cannot go on"), ROOM),
    ],
)
def test_what_helps(error: Exception, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/short")
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    outer = RuntimeError("An error was encountered.")
    outer.__cause__ = error
    lines = str(trouble(outer)).splitlines()
    assert len(lines) == 2
    assert lines[0] == f"The simulation does not start, or broke off: {str(error).rstrip('.')}."
    assert advice in lines[1]


def test_a_proxy_may_be_why_nothing_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://10.0.0.1:3128")
    assert "unset http_proxy" in str(trouble(RuntimeError("The current node timed out")))
    assert "http_proxy" not in str(trouble(RuntimeError("it cannot go on")))
