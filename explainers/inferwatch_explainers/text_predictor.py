"""A served model as a function of texts, asked in the form of the request that is explained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.rows import Schema
from inferwatch_explainers.predictor import BoundPredictor
from inferwatch_explainers.texts import schema_of


class TextPredictor:
    """Asks about texts, and counts calls and texts. `bind` gives the predictor that writes rows of a schema."""

    def __init__(self, bind: Callable[[Schema], BoundPredictor], name: str) -> None:
        self._bind = bind
        self._name = name
        self.calls = 0
        self.rows = 0

    def __call__(self, texts: list[str]) -> NDArray[Any]:
        """Return the outputs (r,) or (r, k) for different texts. Raises `PredictorError` or `PredictorTimeout`."""
        bound = self._bind(schema_of(self._name, texts))
        try:
            return bound(np.arange(len(texts), dtype=np.float64)[:, None])
        finally:
            self.calls += bound.calls
            self.rows += bound.rows
