"""Flower's private parts: three files import them, and they restore what they change."""

from __future__ import annotations

import ast
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.superlink.grid import http_grid

from fedmem.messaging import flower_internals, simulation_internals, superlink_internals
from fedmem.messaging.exchange import exchange
from fedmem.messaging.flower_internals import (
    parts_of_replies_until,
    records_from_bytes,
    records_to_bytes,
)
from tests.helpers.in_process_grid import InProcessGrid

ROOT = Path(__file__).parents[3]
PUBLIC = {
    "flwr.app",
    "flwr.client",
    "flwr.clientapp",
    "flwr.common",
    "flwr.serverapp",
    "flwr.serverapp.strategy",
    "flwr.simulation",
}


def flower_modules(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


def test_no_other_file_imports_what_is_private_in_flower() -> None:
    modules = (flower_internals, simulation_internals, superlink_internals)
    own = {Path(each.__file__) for each in modules}
    for package in ("fedmem", "strategies", "clients"):
        for file in (ROOT / package).rglob("*.py"):
            found = {name for name in flower_modules(file) if name.split(".")[0] == "flwr"}
            assert file in own or found <= PUBLIC, file


def test_after_an_exchange_the_grid_pulls_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def somebody_elses(*_: Any, **__: Any) -> dict[str, bytes]:
        return {}

    monkeypatch.setattr(http_grid, "pull_objects", somebody_elses)
    seen = []

    class Grid(InProcessGrid):
        def pull_messages(self, message_ids: Any) -> Any:
            seen.append(http_grid.pull_objects)
            return super().pull_messages(message_ids)

        def push_messages(self, messages: Any) -> Any:
            for message in messages:
                message.metadata.__dict__["_message_id"] = "one"
                self._replies["one"] = Message(RecordDict(), reply_to=message)
            return ["one"]

    grid = Grid(1)
    task = Message(RecordDict(), dst_node_id=100, message_type="train")
    for _ in range(2):
        replies, failed = exchange(grid, [task], 5.0, threading.Event())
        assert (len(replies), failed) == (1, {})
        assert http_grid.pull_objects is somebody_elses
    assert all(each is not somebody_elses for each in seen)
    with pytest.raises(ValueError, match="broke"), parts_of_replies_until(time.monotonic()):
        raise ValueError("broke")
    assert http_grid.pull_objects is somebody_elses


def test_every_exchange_looks_often_for_the_parts_of_a_reply(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []

    def noting(*_: Any, **how: Any) -> dict[str, bytes]:
        asked.append(how)
        return {}

    monkeypatch.setattr(flower_internals, "pull_objects", noting)
    for _ in range(2):
        with parts_of_replies_until(time.monotonic() + 100):
            http_grid.pull_objects(["a"], lambda _: b"")
    for how in asked:
        assert how["initial_backoff"] <= 0.1
        assert how["backoff_cap"] <= 0.5
        assert 0 < how["max_time"] <= 100
    with parts_of_replies_until(time.monotonic() - 1):
        http_grid.pull_objects(["a"], lambda _: b"")
    assert asked[-1]["max_time"] == 0.0


def test_records_come_back_from_bytes() -> None:
    record = ArrayRecord({"w": Array(np.arange(6.0).reshape(2, 3))})
    back = records_from_bytes(records_to_bytes(RecordDict({"scope": record})))
    assert back.array_records["scope"]["w"].numpy().tolist() == record["w"].numpy().tolist()
    with pytest.raises(ValueError, match="parsing message"):
        records_from_bytes(b"\xff\xff\xff")
