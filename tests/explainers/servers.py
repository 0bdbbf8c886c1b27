"""Small real servers: a model server whose behaviour a test chooses, and any ASGI application on a free port."""

from __future__ import annotations

import asyncio
import struct
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
from inferwatch.rows import Rows, Schema
from inferwatch.wire.decode import decode
from inferwatch_cli.listening import listening


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application in a thread; the block is given its address and ends with a graceful stop."""
    server = _Server(uvicorn.Config(app, log_level="warning", ws="none", lifespan="on"))
    with listening("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=asyncio.run, args=(server.serve(sockets=[listener]),))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.told_to_stop.set()
            thread.join()


class _Server(uvicorn.Server):
    """Stops as soon as it is told to, where uvicorn looks each tenth of a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.told_to_stop = threading.Event()

    async def main_loop(self) -> None:
        await asyncio.to_thread(self.told_to_stop.wait)


@dataclass
class Call:
    """One request that the model server got."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    rows: int


@dataclass
class ModelServer:
    """A V1 and V2 server of one function of rows, which can be told to misbehave.

    `spoken` lists the protocols; `refusals` are replies given before any good one; `spoil` replaces every reply;
    calls about more than `most_rows` get 413; `binary_outputs` are answered to binary requests in place of the truth.
    """

    schema: Schema
    predict: Callable[[np.ndarray[Any, Any]], Any]
    spoken: tuple[str, ...] = ("v1", "v2")
    calls: list[Call] = field(default_factory=list)
    refusals: list[Response] = field(default_factory=list)
    spoil: Response | None = None
    hold: threading.Event | None = None
    most_rows: int | None = None
    version: str | None = None
    binary_outputs: Callable[[np.ndarray[Any, Any]], Any] | None = None

    @property
    def asked_rows(self) -> int:
        """How many rows it was asked about."""
        return sum(call.rows for call in self.calls)

    def application(self) -> FastAPI:
        """Return the server as an application."""
        app = FastAPI()

        async def infer(request: Request) -> Response:
            version = request.url.path[1:3]
            if version not in self.spoken:
                return Response(b'{"detail":"Not Found"}', 404)
            body = await request.body()
            head_bytes = request.headers.get("inference-header-content-length")
            if head_bytes is not None and "v2_binary" not in self.spoken:
                return Response(b'{"error":"no JSON"}', 400)
            call = _call(request, body, head_bytes)
            self.calls.append(call)
            if self.hold is not None:
                await asyncio.to_thread(self.hold.wait, 30)
            if self.refusals:
                return self.refusals.pop(0)
            if self.most_rows is not None and call.rows > self.most_rows:
                return Response(b'{"error":"too many rows"}', 413)
            if self.spoil is not None:
                return self.spoil
            if head_bytes is not None:
                return self._binary_reply(call.body)
            return self._reply(version, body)

        for path in ("/v1/models/{name}:predict", "/v2/models/{name}/infer"):
            app.post(path)(infer)
        return app

    def _inputs(self, rows: Rows) -> Any:
        return self.schema.encode(rows).values

    def _reply(self, version: str, body: bytes) -> Response:
        rows = decode(body, Role.REQUEST).rows
        if rows is None:
            return Response(b'{"error":"not rows"}', 400)
        outputs = np.asarray(self.predict(self._inputs(rows)))
        if version == "v1":
            return Response(orjson.dumps({"predictions": outputs.tolist()}), media_type="application/json")
        datatype = {"f": "FP64", "i": "INT64", "b": "BOOL"}.get(outputs.dtype.kind, "BYTES")
        tensor = {"name": "output-0", "shape": list(outputs.shape), "datatype": datatype}
        reply = {"model_name": "m", "model_version": self.version, "id": "1", "parameters": None}
        reply["outputs"] = [{**tensor, "parameters": None, "data": outputs.ravel().tolist()}]  # type: ignore[assignment]  # any JSON
        return Response(orjson.dumps(reply), media_type="application/json")

    def _binary_reply(self, body: dict[str, Any]) -> Response:
        rows = decode(orjson.dumps(body), Role.REQUEST).rows
        assert rows is not None
        predict = self.binary_outputs or self.predict
        outputs = np.asarray(predict(self._inputs(rows)))
        if outputs.dtype.kind == "f":
            datatype, tail = "FP64", outputs.astype("<f8").tobytes()
        else:
            texts = [str(cell).encode() for cell in outputs.tolist()]
            datatype, tail = "BYTES", b"".join(struct.pack("<I", len(text)) + text for text in texts)
        parameters = {"binary_data_size": len(tail)}
        tensor = {"name": "o", "shape": list(outputs.shape), "datatype": datatype, "parameters": parameters}
        head = orjson.dumps({"model_name": "m", "outputs": [tensor]})
        return Response(head + tail, headers={"inference-header-content-length": str(len(head))})


class TextServer(ModelServer):
    """The same for a function of texts, one a row."""

    def _inputs(self, rows: Rows) -> list[str]:
        [column] = rows.columns
        return [cell.decode() if isinstance(cell, bytes) else cell for cell in column.values.tolist()]


def _call(request: Request, body: bytes, head_bytes: str | None) -> Call:
    document = orjson.loads(body) if head_bytes is None else _as_json(body, int(head_bytes))
    rows = decode(orjson.dumps(document), Role.REQUEST).rows
    return Call(request.url.path, dict(request.headers), document, rows.count if rows is not None else 0)


def _as_json(body: bytes, head_bytes: int) -> dict[str, Any]:
    """Return what the same request says in JSON; written apart from the code under test."""
    document: dict[str, Any] = orjson.loads(body[:head_bytes])
    assert document["parameters"].pop("binary_data_output") is True
    start = head_bytes
    for tensor in document["inputs"]:
        tail = body[start : start + tensor["parameters"]["binary_data_size"]]
        start += len(tail)
        tensor["data"] = _values(tensor["datatype"], tail)
        del tensor["parameters"]["binary_data_size"]
    assert start == len(body)
    return document


def _values(datatype: str, tail: bytes) -> list[Any]:
    if datatype != "BYTES":
        code = {"FP64": "d", "FP32": "f", "INT64": "q", "BOOL": "?"}[datatype]
        return list(struct.unpack(f"<{len(tail) // struct.calcsize(code)}{code}", tail))
    texts = []
    while tail:
        length = int.from_bytes(tail[:4], "little")
        texts.append(tail[4 : 4 + length].decode())
        tail = tail[4 + length :]
    return texts
