"""The model server that capture is measured in: `python -m benchmarks.iris_server bare|ours PORT SINK_URL`.

A scikit-learn classifier of iris flowers behind FastAPI and the V1 protocol, as small as such a server gets; `sink` in
place of a kind starts the receiver of the events, which answers at once and counts.
"""

from __future__ import annotations

import sys
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from benchmarks.serving import serve
from inferwatch_logger import CaptureMiddleware


class Asked(BaseModel):
    """A V1 request."""

    instances: list[list[float]]


def predictor() -> Any:  # noqa: ANN401 - an ASGI application
    """Return the bare server."""
    model = LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True))
    app = FastAPI()

    @app.post("/v1/models/iris:predict")
    async def predict(asked: Asked) -> dict[str, list[int]]:
        return {"predictions": model.predict(asked.instances).tolist()}

    return app


class Receiver:
    """Answers every event with an empty 200, and a GET with the number of events so far."""

    def __init__(self) -> None:
        self.events = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        while (await receive()).get("more_body"):
            pass
        body = b""
        if scope["method"] == "POST":
            self.events += 1
        else:
            body = str(self.events).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def application(kind: str, sink: str) -> Any:  # noqa: ANN401 - an ASGI application
    """Return the application of that kind."""
    if kind == "sink":
        return Receiver()
    app = predictor()
    if kind == "ours":
        app.add_middleware(CaptureMiddleware, sink=sink, name="iris")
    return app


if __name__ == "__main__":
    kind_text, port_text, *rest = sys.argv[1:]
    serve(application(kind_text, *rest or [""]), int(port_text))
