"""A gradient-boosting model of 12 features behind a delay, served by KServe's own server or by a plain one.

KServe 0.21 turns binary tensors into lists before a model sees them; the plain server reads them as they are, as Triton
does. Runs in the demo's environment: explained_server.py (kserve|plain) PORT DELAY_S.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

from explained import boosted  # a neighbour: this file is run, never imported


def serve_kserve(port: int, delay_s: float) -> None:
    """Serve with KServe's model server."""
    import kserve

    class Boosted(kserve.Model):  # type: ignore[misc]  # kserve is in another environment
        def __init__(self) -> None:
            super().__init__("boosted")
            self._model = boosted()
            self.ready = True

        async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:  # noqa: ANN401, ARG002 - KServe's
            await asyncio.sleep(delay_s)
            if not isinstance(payload, kserve.InferRequest):
                return {"predictions": self._model.predict(np.array(payload["instances"])).tolist()}
            outputs = self._model.predict(payload.inputs[0].as_numpy())
            output = kserve.InferOutput("output-0", list(outputs.shape), "FP64")
            output.set_data_from_numpy(outputs, binary_data=False)
            reply = str(uuid4()), self.name, [output]
            return kserve.InferResponse(*reply, use_binary_outputs=payload.use_binary_outputs)

    kserve.ModelServer(http_port=port, grpc_port=port + 1, workers=1, access_log_format=None).start([Boosted()])


def serve_plain(port: int, delay_s: float) -> None:
    """Serve V1, and V2 with one binary tensor."""
    app, model = FastAPI(), boosted()

    @app.get("/v2/health/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/v1/models/boosted:predict")
    async def predict(request: Request) -> Response:
        rows = np.array(orjson.loads(await request.body())["instances"])
        await asyncio.sleep(delay_s)
        return Response(orjson.dumps({"predictions": model.predict(rows).tolist()}))

    @app.post("/v2/models/boosted/infer")
    async def infer(request: Request) -> Response:
        body = await request.body()
        rows = np.frombuffer(body, dtype="<f8", offset=int(request.headers["inference-header-content-length"]))
        await asyncio.sleep(delay_s)
        tail = model.predict(rows.reshape(-1, 12)).tobytes()
        size = {"binary_data_size": len(tail)}
        tensor = {"name": "output-0", "shape": [len(tail) // 8], "datatype": "FP64", "parameters": size}
        head = orjson.dumps({"model_name": "boosted", "outputs": [tensor]})
        return Response(head + tail, headers={"inference-header-content-length": str(len(head))})

    uvicorn.run(app, port=port, access_log=False)


if __name__ == "__main__":
    serve = {"kserve": serve_kserve, "plain": serve_plain}[sys.argv[1]]
    serve(int(sys.argv[2]), float(sys.argv[3]))
