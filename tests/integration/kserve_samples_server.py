"""KServe's own model server with the three models of its samples, in small; runs in its own environment.

    python kserve_samples_server.py PORT [WEIGHTS]

`income` decides by rows of 12 numbers, `moviesentiment` by texts; with a file of weights, `digits` is a convolutional
network on 8 x 8 images that answers a score a class.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import kserve
import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

Predict = Callable[[Any], Any]


class Served(kserve.Model):  # type: ignore[misc]  # kserve is in another environment
    """Answers V1 requests with what a function of the instances returns."""

    def __init__(self, name: str, predict: Predict) -> None:
        super().__init__(name)
        self._predict = predict
        self.ready = True

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:  # noqa: ARG002
        return {"predictions": np.asarray(self._predict(payload["instances"])).tolist()}


def income() -> Predict:
    """A tree that decides by two of 12 features: married (feature 3 is 1) with long education (feature 2 above 9)."""
    rows = np.random.default_rng(0).integers(0, 20, size=(4000, 12))
    rows[:, 3] = np.random.default_rng(1).integers(0, 4, size=4000)
    model = DecisionTreeClassifier(random_state=0).fit(rows, (rows[:, 3] == 1) & (rows[:, 2] > 9))
    return lambda instances: model.predict(np.array(instances)).astype(int)


def moviesentiment() -> Predict:
    """A bag of words that learnt from made-up reviews: praise is 1, blame is 0, other words say nothing."""
    generator = np.random.default_rng(0)
    praise, blame = ["superb", "moving", "witty"], ["dull", "clumsy", "boring"]
    others = ["the", "film", "plot", "cast", "scene", "music", "was", "and", "two", "hours"]
    reviews, labels = [], []
    for number in range(600):
        telling = praise if number % 2 else blame
        reviews.append(" ".join([*generator.choice(others, 8), generator.choice(telling)]))
        labels.append(number % 2)
    model = make_pipeline(CountVectorizer(), LogisticRegression(C=10)).fit(reviews, labels)
    return lambda instances: model.predict(instances)


def digits(weights: str) -> Predict:
    """A convolution of 3 x 3 with padding, a ReLU, and a linear layer on what is left, in NumPy."""
    with np.load(weights) as file:
        kernel, shift, matrix, bias = (file[name] for name in ("kernel", "shift", "matrix", "bias"))

    def predict(instances: Any) -> Any:
        images = np.pad(np.array(instances, dtype=np.float32).reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
        parts = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))
        hidden = np.maximum(np.einsum("nhwij,cij->nchw", parts, kernel[:, 0]) + shift[:, None, None], 0)
        return hidden.reshape(len(images), -1) @ matrix.T + bias

    return predict


def main(port: str, weights: str | None = None) -> None:
    models = {"income": income(), "moviesentiment": moviesentiment()} | ({"digits": digits(weights)} if weights else {})
    server = kserve.ModelServer(http_port=int(port), enable_grpc=False, workers=1, access_log_format=None)
    server.start([Served(name, predict) for name, predict in models.items()])


if __name__ == "__main__":
    main(*sys.argv[1:])
