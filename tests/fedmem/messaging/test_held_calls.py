"""Calls for messages are held until there are some, and no longer than they ask for."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from fedmem.messaging import held_calls
from fedmem.messaging.held_calls import HOLD, HeldCalls, Scope

NEVER = "0.001"
"""A hold that is over before anything can come."""


class Post:
    """An app with a box for each node: `/push` fills boxes, `/pull` empties one.

    Attributes:
        looks: the boxes that were looked into, in order.
    """

    def __init__(self) -> None:
        self.boxes: dict[str, list[str]] = {}
        self.looks: list[str] = []
        self.refuses = False
        self.during_looks: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = await receive()
        asked = json.loads(body["body"])
        scope["state"]["asked"] = asked
        answer = ""
        if scope["path"] == "/push" and not self.refuses:
            for node, letter in asked.items():
                self.boxes.setdefault(node, []).append(letter)
        elif scope["path"] == "/pull" and not self.refuses:
            self.looks.append(asked)
            box = self.boxes.get(asked, [])
            answer = box.pop(0) if box else ""
            if self.during_looks:
                await self.during_looks()
        status = 500 if scope["path"] == "/broken" else 401 if self.refuses else 200
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": answer.encode()})


def wanted(path: str, body: bytes) -> set[str] | None:
    return {json.loads(body)} if path == "/pull" else None


def brought(scope: Scope) -> Mapping[str, int]:
    return Counter(list(scope["state"]["asked"])) if scope["path"] == "/push" else Counter()


class Caller:
    """Somebody who calls; `leave` breaks the connection."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.leave = asyncio.Event()

    async def __call__(self, path: str, body: Any, hold: str | None = None) -> list[Any]:
        headers = [] if hold is None else [(HOLD.encode(), hold.encode())]
        parts = [{"type": "http.request", "body": json.dumps(body).encode()}]
        answer: list[Any] = []

        async def receive() -> Any:
            if parts:
                return parts.pop(0)
            await self.leave.wait()
            return {"type": "http.disconnect"}

        async def send(part: Any) -> None:
            answer.append(part)

        scope = {"type": "http", "path": path, "headers": headers, "state": {}}
        await self.app(scope, receive, send)
        return answer


def said(answer: list[Any]) -> str:
    text: str = answer[1]["body"].decode()
    return text


def held(answer: list[Any]) -> bool:
    return HOLD.encode() in dict(answer[0]["headers"])


@pytest.fixture
def post() -> Post:
    return Post()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_a_call_that_does_not_ask_is_answered_at_once(post: Post) -> None:
    async def scenario() -> None:
        call = Caller(HeldCalls(post, wanted, brought))
        empty = await call("/pull", "a")
        assert (said(empty), held(empty)) == ("", False)
        await call("/push", {"a": "one"})
        assert said(await call("/pull", "a")) == "one"
        other = await call("/broken", {}, hold="9")  # held or not, it is another call
        assert other[0]["status"] == 500

    run(scenario)


def test_a_held_call_is_answered_when_something_comes(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_calls, "LONGEST_HOLD", 1000.0)

    async def scenario() -> None:
        call = Caller(HeldCalls(post, wanted, brought))
        waits = {node: asyncio.ensure_future(call("/pull", node, hold="900")) for node in "ab"}
        await until(lambda: sorted(post.looks) == ["a", "b"])  # nothing is known of either
        await call("/push", {"b": "two"})
        answer = await waits["b"]
        assert (said(answer), held(answer)) == ("two", True)
        assert not waits["a"].done()
        assert post.looks.count("a") == 1  # what came was not for it
        await call("/push", {"a": "one", "b": "three"})
        assert said(await waits["a"]) == "one"
        assert said(await call("/pull", "b", hold="900")) == "three"  # came while nobody waited

    run(scenario)


def test_nobody_looks_where_nothing_is_until_the_time_is_up(post: Post) -> None:
    async def scenario() -> None:
        call = Caller(HeldCalls(post, wanted, brought))
        assert said(await call("/pull", "a", hold=NEVER)) == ""
        before = len(post.looks)
        post.boxes["a"] = ["unheard of"]  # as an error that a SuperLink makes of a look
        assert said(await call("/pull", "a", hold=NEVER)) == "unheard of"
        assert len(post.looks) == before + 1
        await call("/push", {"a": "one"})
        await call("/push", {"a": "two"})
        assert [said(await call("/pull", "a", hold="900")) for _ in range(2)] == ["one", "two"]

    run(scenario)


def test_what_comes_during_a_look_is_not_missed(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_calls, "LONGEST_HOLD", 1000.0)

    async def scenario() -> None:
        call = Caller(HeldCalls(post, wanted, brought))

        async def meanwhile() -> None:
            post.during_looks = None
            await call("/push", {"a": "one"})

        post.during_looks = meanwhile
        assert said(await call("/pull", "a", hold="900")) == "one"
        assert len(post.looks) == 2

    run(scenario)


def test_nothing_is_fetched_for_a_caller_who_has_left(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_calls, "LONGEST_HOLD", 1000.0)

    async def scenario() -> None:
        app = HeldCalls(post, wanted, brought)
        gone, other = Caller(app), Caller(app)
        waiting = asyncio.ensure_future(gone("/pull", "a", hold="900"))
        await until(lambda: bool(post.looks))
        gone.leave.set()
        assert await waiting == []
        await other("/push", {"a": "one"})
        assert said(await other("/pull", "a", hold="900")) == "one"
        assert not app._waiting

    run(scenario)


def test_a_stranger_s_call_is_refused_and_changes_nothing(post: Post) -> None:
    async def scenario() -> None:
        app = HeldCalls(post, wanted, brought)
        call = Caller(app)
        await call("/pull", "a", hold=NEVER)
        await call("/push", {"a": "one"})
        post.refuses = True
        for node in "ab":
            assert (await call("/pull", node, hold=NEVER))[0]["status"] == 401
            assert (await call("/push", {node: "forged"}))[0]["status"] == 401
        assert app._there == {"a": 1}
        post.refuses = False
        assert said(await call("/pull", "a", hold="900")) == "one"

    run(scenario)


def test_it_forgets_keys_that_nobody_asks_for(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_calls, "MOST_COUNTED", 3)

    async def scenario() -> None:
        app = HeldCalls(post, wanted, brought)
        call = Caller(app)
        for node in "abcdef":
            await call("/pull", node, hold=NEVER)
            await call("/push", {node: node})
        assert len(app._there) <= 3
        assert [said(await call("/pull", n, hold=NEVER)) for n in "abcdef"] == list("abcdef")

    run(scenario)


@pytest.mark.parametrize("hold", ["soon", "-1", "nan"])
def test_a_time_that_is_none_is_no_hold(hold: str, post: Post) -> None:
    async def scenario() -> None:
        call = Caller(HeldCalls(post, wanted, brought))
        assert said(await call("/pull", "a", hold=hold)) == ""
        await call("/push", {"a": "one"})
        assert said(await call("/pull", "a", hold=hold)) == "one"

    run(scenario)
