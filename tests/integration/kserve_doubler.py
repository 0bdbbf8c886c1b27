"""A KServe model server with capture: doubles numbers over V1 and V2. Runs in the model server's own environment.

python kserve_doubler.py SINK [SPOOL] --http_port PORT [--grpc_port PORT]
An empty SINK is none.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.errors import InvalidInput
from kserve.model_server import app

from inferwatch_logger import CaptureMiddleware


class Doubler(Model):  # type: ignore[misc]  # types are checked where KServe is not installed
    def __init__(self) -> None:
        super().__init__("doubler")
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:  # noqa: ARG002
        if isinstance(payload, InferRequest):
            doubled = [2 * value for value in payload.inputs[0].data]
            await asyncio.sleep(5.0 if doubled[0] == -2 else 0.0)
            output = InferOutput("doubled", [len(doubled)], "FP64", data=doubled)
            return InferResponse(payload.id, "doubler", [output])
        if any(isinstance(value, str) for value in payload["instances"]):
            raise InvalidInput("text cannot be doubled")
        return {"predictions": [2 * value for value in payload["instances"]]}


if __name__ == "__main__":
    sink = sys.argv.pop(1)
    spool = None if sys.argv[1].startswith("--") else sys.argv.pop(1)
    if sink:
        app.add_middleware(
            CaptureMiddleware,
            sink=sink,
            name="doubler",
            namespace="prod",
            metadata_headers=["x-request-id", "authorization"],
            spool=spool,
        )
    ModelServer(enable_grpc="--grpc_port" in sys.argv).start([Doubler()])
