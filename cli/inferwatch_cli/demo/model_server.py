"""The demo's model server: KServe's own, with the capture middleware in it. Runs in an environment of its own.

It trains a gradient-boosting classifier on the rows of a Parquet file and answers the probability of the label, over V1
(rows as lists) and V2 (one tensor a feature, or one of all).
"""

from __future__ import annotations

import argparse
from typing import Any
from uuid import uuid4

import kserve
import pandas as pd
from kserve.model_server import app
from sklearn.ensemble import HistGradientBoostingClassifier

from inferwatch_logger import CaptureMiddleware


class Employment(kserve.Model):  # type: ignore[misc]  # kserve is in another environment
    """Answers the probability that a person is employed."""

    def __init__(self, name: str, training: pd.DataFrame, label: str) -> None:
        super().__init__(name)
        self._columns = [column for column in training.columns if column != label]
        self._classifier = HistGradientBoostingClassifier(max_iter=100, random_state=0)
        self._classifier.fit(training[self._columns].to_numpy(float), training[label])
        self.ready = True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:  # noqa: ANN401, ARG002 - KServe's
        """Return one probability a row, in the protocol of the request."""
        if isinstance(payload, kserve.InferRequest):
            rows = self._table(payload)
            output = kserve.InferOutput("probability", [len(rows)], "FP64")
            output.set_data_from_numpy(self._probabilities(rows), binary_data=False)
            return kserve.InferResponse(payload.id or str(uuid4()), self.name, [output])
        return {"predictions": self._probabilities(payload["instances"]).tolist()}

    def _table(self, request: Any) -> Any:  # noqa: ANN401 - KServe's InferRequest
        tensors = {tensor.name: tensor.as_numpy() for tensor in request.inputs}
        if len(tensors) == 1:
            return next(iter(tensors.values()))
        return pd.DataFrame({name: tensors[name].reshape(-1) for name in self._columns}).to_numpy(float)

    def _probabilities(self, rows: Any) -> Any:  # noqa: ANN401 - lists or an array
        return self._classifier.predict_proba(rows)[:, 1]


def main() -> None:
    """Train, and serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--training", required=True, help="Parquet file with the training rows")
    parser.add_argument("--label", required=True, help="the column to predict")
    parser.add_argument("--name", required=True, help="the model's name")
    parser.add_argument("--sink", required=True, help="where the events go")
    parser.add_argument("--http_port", required=True, type=int)
    options = parser.parse_args()
    app.add_middleware(CaptureMiddleware, sink=options.sink, name=options.name, namespace="default")
    model = Employment(options.name, pd.read_parquet(options.training), options.label)
    server = kserve.ModelServer(http_port=options.http_port, enable_grpc=False, workers=1, access_log_format=None)
    server.start([model])


if __name__ == "__main__":
    main()
