"""The files of the page."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import Response

from fedmem.serve.engine import NotHere

TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


def add_page(app: FastAPI) -> None:
    """Let an app answer with the page's files, read once: no path of a request touches the disk."""
    folder = resources.files("fedmem.serve") / "page"
    files = {
        each.name: (each.read_bytes(), TYPES[Path(each.name).suffix])
        for each in folder.iterdir()
        if Path(each.name).suffix in TYPES
    }

    def answer(name: str) -> Response:
        if name not in files:
            raise NotHere(f"There is no page {name}.")
        content, kind = files[name]
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    @app.get("/", include_in_schema=False)
    async def start() -> Response:
        return answer("index.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return answer("docs.html")

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return answer("icon.svg")

    @app.get("/page/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        return answer(name)
