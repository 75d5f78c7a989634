"""What a setting may be, and the error where it is not."""

from __future__ import annotations

from fedmem.core.errors import FedmemError


def require(holds: bool, key: str, value: object, allowed: str) -> None:
    """Raise a `FedmemError` that names the key, its value and what is allowed, unless it holds."""
    if not holds:
        raise FedmemError(f"{key}={value} is out of range: {allowed}.")
