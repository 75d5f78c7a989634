"""What a mistake of a user may end in: an error of one to three lines, or nothing bad at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fedmem.core.errors import FedmemError


def or_mistake(action: Callable[[], Any]) -> Any:
    """What it gives, or None where it ends in a mistake that a user can read."""
    try:
        return action()
    except FedmemError as error:
        lines = str(error).splitlines()
    assert 1 <= len(lines) <= 3
    assert all(line.strip() for line in lines)
    return None
