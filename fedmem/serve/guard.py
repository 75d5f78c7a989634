"""What stands before every request: who may ask, from where, how much, and what a browser may do.

A page of another site that a person has open can send requests to the loopback too, and by DNS
rebinding even under a name of its own. So the Host and the Origin have to be ours, and a browser is
kept from loading anything else into our page.
"""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedmem.serve.metrics import Metrics

MAX_BODY = 4 << 20
"""Bytes of a request."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN = ("/", "/docs", "/openapi.json")
"""Paths that need no token, beside `/page/`: they hold nothing of anybody."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}

log = logging.getLogger("fedmem.serve")


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        hosts: names and addresses by which the server is called, with and without its port.
        token: that every request for something of a person has to bring; None: none is asked for.
    """

    hosts: frozenset[str]
    token: str | None = None

    @classmethod
    def at(cls, names: Iterable[str], port: int, token: str | None) -> Access:
        """Access by these names at a port; without it where a proxy or the usual port stands."""
        bare = [f"[{name}]" if ":" in name else name.lower() for name in names]
        return cls(frozenset([*bare, *(f"{name}:{port}" for name in bare)]), token)

    def refusal(self, method: str, path: str, headers: Headers) -> tuple[int, str] | None:
        """Status and reason why a request is not answered; None: it is."""
        host = headers.get("host", "").lower()
        if host not in self.hosts:
            return 403, "This server is not called by that name. Start it with --name NAME."
        origin = headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != host:
            return 403, "Another site's page may not ask here."
        site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode")
        if site not in ("none", "same-origin") and mode != "navigate":
            return 403, "Another site's page may not ask here."
        if self.token is None or path in OPEN or path.startswith("/page/"):
            return None
        given = headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            return 401, "A token is needed: send it as Authorization: Bearer TOKEN."
        return None


class Guard:
    """Refuses what may not be asked, bounds what is sent, and sets the headers of every answer.

    Every answer is a line in the log and a count in the metrics, by its route and never by its
    path: a path may name an item of a history.
    """

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics) -> None:
        self._app, self._access, self._metrics = app, access, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._access.refusal(scope["method"], scope["path"], headers)
        body = None
        if refusal is None:
            body = await _body(headers, receive)
            refusal = (413, f"A request has at most {MAX_BODY:,} bytes.") if body is None else None
        try:
            if refusal is not None:
                await _refuse(answer, *refusal)
            else:
                await self._app(scope, _replayed(body or b"", receive), answer)
        finally:
            route = "refused" if refusal else getattr(scope.get("route"), "path", "none")
            seconds = time.perf_counter() - began
            self._metrics.count(scope["method"], route, status, seconds)
            log.info("%s %s %s %.1f ms", scope["method"], route, status, 1000 * seconds)


async def _body(headers: Headers, receive: Receive) -> bytes | None:
    """All of a request's body; None: it is too large."""
    declared = headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > MAX_BODY:
        return None
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b"".join(parts)
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read, once more."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 413:
        headers.append((b"connection", b"close"))  # what is left of the body is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
