"""Calls for messages that are answered when there are some: the half of it at the SuperLink.

Whoever waits for a message would otherwise have to look again and again, each time for a trip over
the link and ten milliseconds of the SuperLink's one process, and would learn of a message half an
interval late. A call that asks for it, by a header, is held until there is something for it, a
second at most; its answer says by the same header that this SuperLink does so.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
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


class HeldCalls:
    """An ASGI middleware that holds calls for messages.

    Args:
        app: that answers them at once, with nothing where there is nothing.
        wanted: what a call for messages is for, by path and body; None: it is another call.
        brought: whom the messages are for that a call has brought, by its scope once answered.
    """

    def __init__(
        self,
        app: App,
        wanted: Callable[[str, bytes], set[str] | None],
        brought: Callable[[Scope], set[str]],
    ) -> None:
        self._app = app
        self._wanted = wanted
        self._brought = brought
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call."""
        seconds = _seconds(scope)
        if seconds is None:
            await self._app(scope, receive, send)
            if scope["type"] == "http":
                for key in self._brought(scope) & set(self._waiting):
                    for news in self._waiting[key]:
                        news.set()
            return
        body = await _whole_body(receive)
        wanted = self._wanted(scope["path"], body)
        if wanted is None:
            await self._app(scope, _replayed(body), send)
            return
        news = asyncio.Event()
        for key in wanted:
            self._waiting[key].add(news)
        try:
            for part in await self._answer(scope, body, receive, news, seconds):
                await send(part)
        finally:
            for key in wanted:
                self._waiting[key].discard(news)
                if not self._waiting[key]:
                    del self._waiting[key]

    async def _answer(
        self, scope: Scope, body: bytes, receive: Receive, news: asyncio.Event, seconds: float
    ) -> list[Any]:
        """What the app answers once there is something, or when the time is up; nothing where the
        caller has left.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + min(seconds, LONGEST_HOLD)
        left = asyncio.ensure_future(_left(receive))
        try:
            while True:
                news.clear()  # before the look: what comes after it is waited for
                answer = await self._look(scope, body)
                if not _is_empty(answer):
                    return answer
                coming = asyncio.ensure_future(news.wait())
                try:
                    rest = max(end - clock(), 0.0)
                    await asyncio.wait({left, coming}, timeout=rest, return_when="FIRST_COMPLETED")
                finally:
                    coming.cancel()
                if left.done():
                    return []
                if not news.is_set():
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
                return max(float(value), 0.0)
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


def _is_empty(answer: list[Any]) -> bool:
    """Whether it is a success without a word, as Flower's is where there is no message."""
    succeeded = any(part.get("status") == 200 for part in answer)
    return succeeded and not any(part.get("body") for part in answer)
