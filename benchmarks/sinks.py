"""The event sinks that are compared: `python -m benchmarks.sinks bare|ours|unbatched|sdk PORT DIRECTORY`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from fastapi import FastAPI, Request, Response

from benchmarks.serving import serve
from inferwatch.events import CloudEvent
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.payload_log.journal import Journal
from inferwatch_logger.ingest import Ingest

Application = Any
"""An ASGI application; frameworks type them in ways that do not agree."""

_NAMED = ("specversion", "id", "source", "type", "time", "datacontenttype")


def ours(journal: Journal) -> Application:
    """Return our ingest."""
    return Ingest(journal, DeadLetter(journal.directory))


def unbatched(journal: Journal) -> Application:
    """Return our ingest, silent on that it takes batches."""
    ingest = ours(journal)

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        async def silent(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [field for field in message["headers"] if field[0] != b"accept-post"]
            await send(message)

        await ingest(scope, receive, silent)

    return app


def sdk(journal: Journal) -> Application:
    """Return the sink that FastAPI's and the SDK's documentation lead to, in front of the same journal."""
    app = FastAPI()

    @app.post("/events")
    async def take(request: Request) -> Response:
        body = await request.body()
        received = from_http_event(HTTPMessage(dict(request.headers), body))
        attributes = received.get_attributes()
        moment = received.get_time()
        event = CloudEvent(
            received.get_id(),
            received.get_source(),
            received.get_type(),
            None if moment is None else round(moment.timestamp() * 1e9),
            received.get_datacontenttype(),
            {name: str(value) for name, value in attributes.items() if name not in _NAMED},
            body,
        )
        await asyncio.wrap_future(journal.append([event]))
        return Response(status_code=200)

    return app


def bare(_: Journal) -> Application:
    """Return what reads the body and answers, and keeps nothing: what HTTP alone costs."""

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401, ARG001 - ASGI
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    return app


SINKS = {"bare": bare, "ours": ours, "unbatched": unbatched, "sdk": sdk}

if __name__ == "__main__":
    kind, port, directory = sys.argv[1:]
    with Journal.open(Path(directory)) as opened:
        serve(SINKS[kind](opened), int(port), lifespan="off")
