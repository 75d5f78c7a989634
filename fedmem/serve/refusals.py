"""What cannot be answered: a status, and a line that says why and holds nothing that was sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from fedmem.core.errors import FedmemError
from fedmem.serve.engine import NotHere


def add_refusals(app: FastAPI) -> None:
    """Let an app answer errors of ours in such a way."""

    @app.exception_handler(RequestValidationError)
    async def not_as_described(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": _faults(error.errors())}, 422)

    @app.exception_handler(NotHere)
    async def not_here(request: Request, error: NotHere) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 404 if request.method != "POST" else 422)

    @app.exception_handler(FedmemError)
    async def cannot(_: Request, error: FedmemError) -> JSONResponse:
        return JSONResponse({"detail": " ".join(str(error).split())}, 422)

    @app.exception_handler(OSError)
    async def disk(_: Request, error: OSError) -> JSONResponse:
        reason = error.strerror or type(error).__name__
        detail = f"The disk does not take it ({reason}); nothing was changed."
        return JSONResponse({"detail": detail}, 507)


def _faults(errors: Sequence[Any]) -> str:
    """The first faults in words, without what was sent: it may be large, and it is somebody's."""
    lines = [
        f"{'.'.join(map(str, each['loc'][1:])) or 'body'}: {each['msg']}" for each in errors[:3]
    ]
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
    return "; ".join(lines) + more
