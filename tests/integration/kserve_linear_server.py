"""KServe's own server, over HTTP and gRPC, of two models of known Shapley values; runs in its own environment."""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from uuid import uuid4

import kserve
import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier


class Served(kserve.Model):  # type: ignore[misc]  # kserve is in another environment
    """Answers what a scikit-learn model predicts, in V1 and in V2 with one tensor of all features, after a delay.

    Replies in V2 are binary where the request asks for that, which KServe sees to.
    """

    def __init__(self, name: str, model: Any, delay_s: float = 0.0) -> None:
        super().__init__(name)
        self._model = model
        self._delay_s = delay_s
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:  # noqa: ARG002
        await asyncio.sleep(self._delay_s)
        if isinstance(payload, kserve.InferRequest):
            outputs = self._model.predict(payload.inputs[0].as_numpy())
            datatype = "INT64" if outputs.dtype.kind == "i" else "FP64"
            output = kserve.InferOutput("output-0", list(outputs.shape), datatype)
            output.set_data_from_numpy(outputs, binary_data=False)
            binary = payload.use_binary_outputs
            return kserve.InferResponse(payload.id or str(uuid4()), self.name, [output], use_binary_outputs=binary)
        return {"predictions": self._model.predict(np.array(payload["instances"])).tolist()}


def main() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 4))
    price = LinearRegression().fit(rows, rows @ np.array([3.0, -2.0, 0.5, 0.0]) + 1.0)
    sign = DecisionTreeClassifier(random_state=0).fit(rows, (rows[:, 0] > 0).astype(int))
    http_port, grpc_port = map(int, sys.argv[1:])
    server = kserve.ModelServer(http_port=http_port, grpc_port=grpc_port, workers=1, access_log_format=None)
    slow = [Served(f"price-{delay_ms}ms", price, delay_ms / 1000) for delay_ms in (5, 20)]
    server.start([Served("price", price), Served("sign", sign), *slow])


if __name__ == "__main__":
    main()
