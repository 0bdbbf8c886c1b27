"""A model server with the paths, shapes and errors of TensorFlow Serving's REST API: half of each number, plus two.

python -m tests.integration.tf_serving FD [SPOOL SPOOL_BYTES SINK...]

It serves at a listening socket; with sinks, with capture inside.

Beside it a stream, `/openai/v1/completions`: each part is sent once as many clients as STREAMS have had the one before.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import uvicorn

from inferwatch_logger import CaptureMiddleware

MODEL = "half_plus_two"
VERSION = "1"
STREAMS = 1_000
PARTS = 5

Send = Callable[[dict[str, Any]], Awaitable[None]]

_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(:predict|/metadata)?")


class NoPrediction(Exception):
    """The status and the sentence of an error."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class HalfPlusTwo:
    """The ASGI application."""

    def __init__(self) -> None:
        self._together = asyncio.Barrier(STREAMS)

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["path"] == "/openai/v1/completions":
            await self._stream(body, send)
            return
        try:
            status, answer = 200, _answer(scope["method"], scope["path"], body)
        except NoPrediction as error:
            status, answer = error.status, {"error": str(error)}
        text = json.dumps(answer, indent=4).encode() + b"\n"
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    async def _stream(self, name: bytes, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for number in range(PARTS):
            await self._together.wait()
            await send({"type": "http.response.body", "body": part(name, number), "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def part(name: bytes, number: int) -> bytes:
    """Return a part of a stream."""
    return b"data: %b %d\n\n" % (name, number)


def _answer(method: str, path: str, body: bytes) -> dict[str, Any]:
    found = _PATH.fullmatch(path)
    if found is None:
        raise NoPrediction(404, f"Malformed request: {method} {path}")
    model, version, verb = found.groups()
    if model != MODEL or version not in (None, VERSION):
        which = f"Specific({model}, {version})" if version else f"Latest({model})"
        raise NoPrediction(404, f"Servable not found for request: {which}")
    if verb == ":predict":
        return _predict(body)
    status = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": VERSION, "state": "AVAILABLE", "status": status}]}


def _predict(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except ValueError:
        raise NoPrediction(400, "JSON Parse error: Invalid value. at offset: 0") from None
    key = "instances" if "instances" in given else "inputs"
    try:
        halves = [value / 2 + 2 for value in given[key]]
    except (KeyError, TypeError):
        raise NoPrediction(400, "Missing 'inputs' or 'instances' key") from None
    return {"predictions" if key == "instances" else "outputs": halves}


async def _live(receive: Any, send: Send) -> None:
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


def main(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM."""
    fd, *captured = arguments
    app: Any = HalfPlusTwo()
    if captured:
        spool, spool_bytes, *sinks = captured
        app = CaptureMiddleware(
            app, sink=sinks, name=MODEL, namespace="prod", spool=spool, queue_bytes=int(spool_bytes)
        )
    uvicorn.run(app, fd=int(fd), lifespan="on", http="httptools", log_level="warning", backlog=2048)


if __name__ == "__main__":
    main(sys.argv[1:])
