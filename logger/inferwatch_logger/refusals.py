"""Errors over HTTP: every one is `{"error": "one sentence"}` with the right status, whatever raised it."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from inferwatch.errors import PayloadLogError

_MOST_CHARACTERS = 64


def refusal(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error reply."""
    body = orjson.dumps({"error": sentence})
    return Response(body, status, dict(headers or {}), media_type="application/json")


def refuse_in_sentences(app: FastAPI) -> None:
    """Have the application answer its errors in this shape: unknown paths, wrong methods, bad parameters, faults."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(PayloadLogError, _unavailable)
    app.add_exception_handler(Exception, _unexpected)


async def _invalid(request: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    return refusal(400, "; ".join(_sentence(fault) for fault in faults[:4]) or f"bad request to {request.url.path}")


async def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    sentence = str(error.detail)
    if error.status_code == 404 and sentence == "Not Found":
        sentence = f"there is no {request.url.path[:_MOST_CHARACTERS]!r} here; /docs lists what there is"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("allow") or (error.headers or {}).get("Allow", "another method")
        sentence = f"{request.method} is not supported here; {allowed} is"
    return refusal(error.status_code, sentence, error.headers)


async def _unavailable(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the signature is Starlette's
    return refusal(503, str(error), {"Retry-After": "1"})


async def _unexpected(request: Request, error: Exception) -> Response:
    return refusal(500, f"{request.url.path[:_MOST_CHARACTERS]} failed: {type(error).__name__}; the log has the cause")


def _sentence(fault: Mapping[str, object]) -> str:
    location = fault.get("loc")
    name = str(location[-1]) if isinstance(location, list | tuple) and location else "request"
    if fault.get("type") == "extra_forbidden":
        return f"{name[:_MOST_CHARACTERS]}: there is no such parameter here"
    message = str(fault.get("msg", "invalid")).removeprefix("Value error, ")
    given = str(fault.get("input"))[:_MOST_CHARACTERS]
    return (
        f"{name}: {message[:1].lower()}{message[1:]}, not {given!r}" if given not in message else f"{name}: {message}"
    )
