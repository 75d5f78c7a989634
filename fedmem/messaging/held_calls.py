"""Calls for messages that are answered when there are some: the half of it at the SuperLink.

Whoever waits for a message would otherwise have to look again and again, each time for a trip over
the link and ten milliseconds of the SuperLink's one process, and would learn of a message half an
interval late. A call that asks for it, by a header, is held until there is something for it, a
second at most; its answer says by the same header that this SuperLink does so.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HOLD = "fedmem-hold"
"""The header: seconds that a caller is ready to wait."""
LONGEST_HOLD = 1.0
"""Seconds. A caller whose link breaks meanwhile is given messages for no longer than that, and a
SuperLink that ends waits for no longer than that."""
MOST_COUNTED = 10_000


class HeldCalls:
    """An ASGI middleware that holds calls for messages.

    It counts what other calls bring, and looks where there may be something: for a key that it
    knows nothing of, once there is news, and when the time is up, since some of what a SuperLink
    says comes of looking. So where it counts wrongly a message is late, not lost.

    Args:
        app: that answers such calls at once, with nothing where there is nothing.
        wanted: the keys that a call looks for, by its path and body; None: it is another call.
        brought: how many messages a call has brought by their keys, by its scope once answered.
    """

    def __init__(
        self,
        app: App,
        wanted: Callable[[str, bytes], Iterable[str] | None],
        brought: Callable[[Scope], Mapping[str, int]],
    ) -> None:
        self._app = app
        self._wanted = wanted
        self._brought = brought
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._there: dict[str, int] = {}  # messages that nobody has fetched, by key where known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call."""
        seconds = _seconds(scope)
        if seconds is None:
            succeeded = False

            async def noting(part: Any) -> None:
                nonlocal succeeded
                succeeded = succeeded or _succeeded([part])
                await send(part)

            await self._app(scope, receive, noting)
            if succeeded:
                self._count(self._brought(scope))
            return
        body = await _whole_body(receive)
        wanted = self._wanted(scope["path"], body)
        if wanted is None:
            await self._app(scope, _replayed(body), send)
            return
        keys, news = set(wanted), asyncio.Event()
        for key in keys:
            self._waiting[key].add(news)
        try:
            for part in await self._answer(scope, body, receive, keys, news, seconds):
                await send(part)
        finally:
            for key in keys:
                self._waiting[key].discard(news)
                if not self._waiting[key]:
                    del self._waiting[key]

    def _count(self, brought: Mapping[str, int]) -> None:
        for key, number in brought.items():
            if key in self._there or not number:
                self._there[key] = self._there.get(key, 0) + number
            if number:
                for news in self._waiting.get(key, ()):
                    news.set()
        while len(self._there) > MOST_COUNTED:
            del self._there[next(iter(self._there))]

    async def _answer(
        self,
        scope: Scope,
        body: bytes,
        receive: Receive,
        keys: set[str],
        news: asyncio.Event,
        seconds: float,
    ) -> list[Any]:
        """What the app answers once there is something, or when the time is up; nothing where the
        caller has left.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + min(seconds, LONGEST_HOLD)
        left = asyncio.ensure_future(_left(receive))
        try:
            while True:
                if all(self._there.get(key) == 0 for key in keys):
                    await _first_of(left, news, end - clock())
                if left.done():
                    return []
                news.clear()
                there = {key for key in keys if self._there.get(key)}
                answer = await self._look(scope, body)
                if not _succeeded(answer):
                    return answer
                if any(part.get("body") for part in answer):  # no message has no bytes
                    for key in there & set(self._there):
                        self._there[key] -= 1
                    return answer
                if not news.is_set():
                    self._there |= dict.fromkeys(keys, 0)
                if clock() >= end:
                    return answer
        finally:
            left.cancel()

    async def _look(self, scope: Scope, body: bytes) -> list[Any]:
        answer: list[Any] = []

        async def keep(part: Any) -> None:
            if part["type"] == "http.response.start":
                part["headers"] = [*part.get("headers", ()), (HOLD.encode(), b"1")]
            answer.append(part)

        own = {**scope, "state": dict(scope.get("state", {}))}
        await self._app(own, _replayed(body), keep)
        return answer


def _seconds(scope: Scope) -> float | None:
    """How long a call asks to be held; None: it does not."""
    for name, value in scope.get("headers", ()):
        if name == HOLD.encode():
            with suppress(ValueError):
                return float(value) if math.isfinite(float(value)) else None
    return None


async def _whole_body(receive: Receive) -> bytes:
    parts = []
    while True:
        part = await receive()
        parts.append(part.get("body", b""))
        if not part.get("more_body"):
            return b"".join(parts)


def _replayed(body: bytes) -> Receive:
    """What an app receives of a call whose body was read; that its caller leaves is seen here."""
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if not parts:
            await asyncio.Event().wait()
        return parts.pop()

    return receive


async def _left(receive: Receive) -> None:
    """Wait until the caller has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _first_of(left: asyncio.Future[Any], news: asyncio.Event, seconds: float) -> None:
    """Wait until the caller has left, or for news, but no longer than so many seconds."""
    coming: asyncio.Future[Any] = asyncio.ensure_future(news.wait())
    try:
        await asyncio.wait({left, coming}, timeout=max(seconds, 0.0), return_when="FIRST_COMPLETED")
    finally:
        coming.cancel()


def _succeeded(answer: list[Any]) -> bool:
    return any(part.get("status") == 200 for part in answer)
