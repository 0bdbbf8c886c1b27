"""What the sidecar is measured between and beside: `python -m benchmarks.proxied KIND PORT [UPSTREAM SINK]`.

`predictor` answers every request at once with a body as long as the request's; `sink` answers every event at once and
counts them. Both are raw protocols, as cheap as Python gets, so that the proxy is what is measured. `starlette` and
`fastapi` are the proxies that one writes with Starlette and aiohttp, and with FastAPI, httpx and the CloudEvents SDK:
both send the request's and the response's event from a queue in the background.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import aiohttp
import httptools
import uvloop
from starlette.applications import Starlette
from starlette.background import BackgroundTasks
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.serving import serve

_TYPES = ("org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response")


class Raw(asyncio.Protocol):
    """Answers each request on a connection by what `answer` gives for its method and its body's length."""

    def __init__(self, answer: Callable[[bytes, int], bytes]) -> None:
        self.answer = answer
        self.parser = httptools.HttpRequestParser(self)
        self.length = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.length = 0

    def on_body(self, part: bytes) -> None:
        self.length += len(part)

    def on_message_complete(self) -> None:
        body = self.answer(self.parser.get_method(), self.length)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % len(body) + body)


async def serve_raw(port: int, answer: Callable[[bytes, int], bytes]) -> None:
    """Serve for good."""
    server = await asyncio.get_running_loop().create_server(lambda: Raw(answer), "127.0.0.1", port)
    await server.serve_forever()


class Predictor:
    """Gives as much as it was given."""

    def __call__(self, _: bytes, length: int) -> bytes:
        return b"1" * length


class Sink:
    """Counts what is posted, and tells the count."""

    def __init__(self) -> None:
        self.events = 0

    def __call__(self, method: bytes, _: int) -> bytes:
        if method == b"POST":
            self.events += 1
            return b""
        return str(self.events).encode()


def starlette_proxy(upstream: str, sink: str) -> Starlette:
    """Return the proxy of Starlette and aiohttp."""
    clients: dict[str, aiohttp.ClientSession] = {}
    queue: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue(100_000)

    async def deliver() -> None:
        while True:
            headers, body = await queue.get()
            async with clients["sink"].post(sink, data=body, headers=headers) as reply:
                await reply.read()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as one, aiohttp.ClientSession() as other:
            clients.update(upstream=one, sink=other)
            tasks = [asyncio.create_task(deliver()) for _ in range(4)]
            yield
            for task in tasks:
                task.cancel()

    async def relay(request: Request) -> Response:
        body = await request.body()
        headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
        url = f"{upstream}{request.url.path}"
        async with clients["upstream"].request(request.method, url, data=body, headers=headers) as reply:
            answer = await reply.read()
            kept = {name: value for name, value in reply.headers.items() if name.lower() != "content-length"}
        identity = str(uuid.uuid4())
        for kind, data in zip(_TYPES, (body, answer), strict=True):
            queue.put_nowait((_binary(identity, kind), data))
        return Response(answer, reply.status, kept)

    return Starlette(routes=[Route("/{path:path}", relay, methods=["GET", "POST"])], lifespan=lifespan)


def fastapi_proxy(upstream: str, sink: str) -> Any:  # noqa: ANN401 - an ASGI application
    """Return the proxy of FastAPI, httpx and the CloudEvents SDK."""
    import httpx  # type: ignore[import-not-found]  # of the peers' environment alone
    from cloudevents.core.bindings.http import to_binary_event
    from cloudevents.core.v1.event import CloudEvent
    from fastapi import FastAPI

    app = FastAPI()
    client = httpx.AsyncClient(timeout=30)

    async def deliver(identity: str, kind: str, data: bytes) -> None:
        attributes = {"id": identity, "source": "proxy", "type": kind, "time": datetime.now(UTC), "specversion": "1.0"}
        message = to_binary_event(CloudEvent(attributes=attributes, data=data))
        await client.post(sink, content=message.body, headers=dict(message.headers))

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def relay(request: Request) -> Response:
        body = await request.body()
        headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
        reply = await client.request(request.method, f"{upstream}{request.url.path}", content=body, headers=headers)
        tasks = BackgroundTasks()
        identity = str(uuid.uuid4())
        tasks.add_task(deliver, identity, _TYPES[0], body)
        tasks.add_task(deliver, identity, _TYPES[1], reply.content)
        kept = {name: value for name, value in reply.headers.items() if name != "content-length"}
        return Response(reply.content, reply.status_code, kept, background=tasks)

    return app


def _binary(identity: str, kind: str) -> dict[str, str]:
    metadata = json.dumps({})
    return {
        "ce-specversion": "1.0",
        "ce-id": identity,
        "ce-source": "proxy",
        "ce-type": kind,
        "ce-time": datetime.now(UTC).isoformat(),
        "ce-inferenceservicename": "income",
        "ce-namespace": "default",
        "ce-metadata": metadata,
        "content-type": "application/json",
    }


PROXIES = {"starlette": starlette_proxy, "fastapi": fastapi_proxy}

if __name__ == "__main__":
    kind, port, *addresses = sys.argv[1:]
    if kind in PROXIES:
        serve(PROXIES[kind](*addresses), int(port))
    else:
        uvloop.run(serve_raw(int(port), Predictor() if kind == "predictor" else Sink()))
