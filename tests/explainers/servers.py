"""Small real servers: a model server whose behaviour a test chooses, and any ASGI application on a free port."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

from inferwatch.events import Role
from inferwatch.rows import Schema
from inferwatch.wire.decode import decode


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application in a thread; the block is given its address and ends with a graceful stop."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", lifespan="on"))
    thread = threading.Thread(target=asyncio.run, args=(server.serve(sockets=[listener]),))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@dataclass
class Call:
    """One request that the model server got."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class ModelServer:
    """A V1 and V2 server of one function of rows, which can be told to misbehave.

    `spoken` limits the protocols; `refusals` are replies given before any good one; `spoil` replaces every reply.
    """

    schema: Schema
    predict: Callable[[np.ndarray[Any, Any]], Any]
    spoken: tuple[str, ...] = ("v1", "v2")
    calls: list[Call] = field(default_factory=list)
    refusals: list[Response] = field(default_factory=list)
    spoil: Response | None = None
    hold: threading.Event | None = None

    @property
    def asked_rows(self) -> int:
        """How many rows it was asked about."""
        asked = [decode(orjson.dumps(call.body), Role.REQUEST).rows for call in self.calls]
        return sum(rows.count for rows in asked if rows is not None)

    def application(self) -> FastAPI:
        """Return the server as an application."""
        app = FastAPI()

        async def infer(request: Request) -> Response:
            version = request.url.path[1:3]
            if version not in self.spoken:
                return Response(b'{"detail":"Not Found"}', 404)
            body = await request.body()
            self.calls.append(Call(request.url.path, dict(request.headers), orjson.loads(body)))
            if self.hold is not None:
                await asyncio.to_thread(self.hold.wait, 30)
            if self.refusals:
                return self.refusals.pop(0)
            return self.spoil or self._reply(version, body)

        for path in ("/v1/models/{name}:predict", "/v2/models/{name}/infer"):
            app.post(path)(infer)
        return app

    def _reply(self, version: str, body: bytes) -> Response:
        rows = decode(body, Role.REQUEST).rows
        if rows is None:
            return Response(b'{"error":"not rows"}', 400)
        outputs = np.asarray(self.predict(self.schema.encode(rows).values))
        if version == "v1":
            return Response(orjson.dumps({"predictions": outputs.tolist()}), media_type="application/json")
        datatype = {"f": "FP64", "i": "INT64", "b": "BOOL"}.get(outputs.dtype.kind, "BYTES")
        tensor = {"name": "output-0", "shape": list(outputs.shape), "datatype": datatype}
        reply = {"model_name": "m", "model_version": None, "id": "1", "parameters": None}
        reply["outputs"] = [{**tensor, "parameters": None, "data": outputs.ravel().tolist()}]  # type: ignore[assignment]  # any JSON
        return Response(orjson.dumps(reply), media_type="application/json")
