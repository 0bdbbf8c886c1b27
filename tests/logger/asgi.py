"""Small ASGI applications, and calls to them as a server makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Message = dict[str, Any]
App = Callable[..., Awaitable[None]]
BODY = b'{"instances": [[1, 2]]}'
JSON = ("content-type", "application/json")


async def call(
    app: App,
    path: str = "/v1/models/income:predict",
    *,
    method: str = "POST",
    headers: Iterable[tuple[str, str]] = (JSON,),
    parts: Iterable[bytes] = (BODY,),
    leaves: bool = False,
) -> list[Message]:
    """Return what the application sends to one request; with `leaves` the client goes before the body's end."""
    given = list(parts)
    length = [] if leaves else [(b"content-length", str(sum(map(len, given))).encode())]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"token=s3cret",
        "root_path": "",
        "headers": [*length, *((name.encode(), value.encode()) for name, value in headers)],
    }
    messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in given]
    messages[-1]["more_body"] = leaves
    waiting = iter(messages)
    sent: list[Message] = []

    async def receive() -> Message:
        message = next(waiting, None)
        if message is None and not leaves:
            await asyncio.Event().wait()
        return message or {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def predict(request: Request) -> Response:
    body = await request.json()
    return JSONResponse({"predictions": [sum(row) for row in body["instances"]]}, headers={"x-a": "b"})


PLAIN = Starlette(routes=[Route("/{path:path}", predict, methods=["GET", "POST"])])


async def echo(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Answer with the body, part for part."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 201, "headers": [(b"Content-Type", b"a/b")]})
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


async def lifespan(app: App) -> list[str]:
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[str] = []

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    return sent
