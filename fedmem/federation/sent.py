"""A node's own record of what it sent: `sent.jsonl` in its folder, a line a reply.

Only nodes of a real federation keep it, for the people who live there; nothing in it is of a
history, and it never leaves.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FILE = "sent.jsonl"


def note_sent(folder: Path, about: Mapping[str, Any]) -> None:
    """Add a reply: `kind`, `stage`, `round`, `users`, `bytes`, `parameters`.

    A disk that does not take it costs no round.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": now, **about}) + "\n")


def read_sent(folder: Path) -> Iterator[dict[str, Any]]:
    """All replies that were noted; a line that is cut short is left out."""
    try:
        lines = (folder / FILE).read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            yield json.loads(line)
