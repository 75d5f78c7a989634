"""Tables of interactions that tests write, and what is read of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fedmem.core.data import interactions
from fedmem.core.data.interactions import Loaded
from fedmem.core.errors import FedmemError
from fedmem.core.settings import DataSettings
from fedmem.runs.configuration import compose_settings

CUSTOM = compose_settings(["data=custom"]).data
ROWS = [(user, 100 + (7 * user + step) % 11, 1_500_000_000 + step) for user in range(1, 9)
        for step in range(6)]  # fmt: skip
"""User, item, time: six interactions of each of eight users, with eleven items."""


def settings_for(
    path: Path | list[Path], order: str | None = None, **changes: object
) -> DataSettings:
    named = [str(each) for each in path] if isinstance(path, list) else str(path)
    columns = replace(CUSTOM.columns, order=order.split() if order else None)
    return replace(CUSTOM, path=named, columns=columns, **changes)  # type: ignore[arg-type]


def load(settings: DataSettings) -> Loaded:
    """Anew, also where a file has changed."""
    return interactions.load.__wrapped__(settings)


def histories(loaded: Loaded) -> dict[str, list[str]]:
    of = loaded.interactions
    return {
        str(user): [str(item) for item in of.item_ids[of.history(index)]]
        for index, user in enumerate(of.user_ids)
    }


def expected(rows: Sequence[tuple[int, int, int]] = ROWS) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for user, item, _ in sorted(rows, key=lambda row: (row[0], row[2])):
        found.setdefault(str(user), []).append(str(item))
    return found


def error_of(settings: DataSettings) -> str:
    with pytest.raises(FedmemError) as caught:
        load(settings)
    assert len(str(caught.value).splitlines()) <= 2
    return str(caught.value)


def write(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def table(separator: str = ",", rows: Sequence[tuple[int, ...]] = ROWS) -> list[str]:
    return [separator.join(map(str, row)) for row in rows]
