"""Shapley values of linear models, in closed form from their coefficients."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from inferwatch.errors import InvalidOption
from inferwatch.explanation import Attribution, Target
from inferwatch.rows import Matrix, Schema
from inferwatch_explainers.arguments import checked_rows, feature_names, shuffled_background
from inferwatch_explainers.model_target import attributed, check_outputs, chosen_outputs


class Linear:
    """Explains predictions of a linear scikit-learn model: coefficient times distance from the background's mean.

    `estimator` is the fitted model, alone or behind scalers in a pipeline; `background` (m, d) what absent features are
    filled from. Classifiers are explained on their decision function. Raises `InvalidOption` for a model without
    coefficients or with a link after them, and `InvalidReference` for an empty background. (Lundberg & Lee, NeurIPS
    2017, corollary 1.)

    >>> from sklearn.linear_model import LinearRegression
    >>> rows = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0]])
    >>> model = LinearRegression().fit(rows, rows @ [3.0, -1.0])
    >>> Linear(model, rows).explain(rows[:1]).values.round(9).tolist()
    [[-3.0, 1.0]]
    """

    method = "linear"

    def __init__(
        self,
        estimator: Any,  # noqa: ANN401 - scikit-learn has no types
        background: Matrix,
        *,
        schema: Schema | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        rows = shuffled_background(background, 0)
        self._features = feature_names(schema, rows.shape[1])
        self._slopes, self._offsets = _coefficients(estimator, rows.shape[1])
        check_outputs(estimator, rows, rows @ self._slopes.T + self._offsets, self.method)
        self._means = rows.mean(axis=0)
        self._clock = clock

    def explain(self, rows: Matrix, /, *, target: Target = None) -> Attribution:
        """Return the attribution of each row (n, d), for its largest output unless `target` is the index of another.

        Raises `InvalidRows` for another width, no rows or values that are not finite, and `InvalidOption` for a target
        that the model lacks.
        """
        started = self._clock()
        rows = checked_rows(rows, len(self._features))
        outputs = rows @ self._slopes.T + self._offsets
        chosen, targets = chosen_outputs(outputs, target)
        values = self._slopes[chosen] * (rows - self._means)
        base = (self._means @ self._slopes.T + self._offsets)[chosen]
        prediction = outputs[np.arange(len(rows)), chosen]
        return attributed(
            self.method, self._features, values, base, prediction, targets, elapsed_s=self._clock() - started
        )


def _coefficients(estimator: Any, width: int) -> tuple[Matrix, Matrix]:  # noqa: ANN401 - scikit-learn has no types
    """Return slopes (k, d) and offsets (k,) of a model, the scalers before it taken in."""
    *scalers, model = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    if not hasattr(model, "coef_") or not hasattr(model, "intercept_"):
        raise InvalidOption(
            f"linear explains linear models of scikit-learn; {type(model).__name__} has no coefficients"
        )
    slopes = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
    if slopes.shape[1] != width:
        raise InvalidOption(f"the model has {slopes.shape[1]} coefficients for {width} features")
    offsets = np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64).reshape(-1), len(slopes))
    for scaler in reversed(scalers):
        scale, shift = _affine(scaler, width)
        offsets, slopes = offsets + slopes @ shift, slopes * scale
    return slopes, offsets


def _affine(scaler: Any, width: int) -> tuple[Matrix, Matrix]:  # noqa: ANN401
    """Return scale and shift (d,) of a step that turns x into x scale + shift."""
    kind = type(scaler).__name__
    if kind == "MinMaxScaler" and not scaler.clip:
        return np.asarray(scaler.scale_), np.asarray(scaler.min_)
    if kind in ("StandardScaler", "RobustScaler", "MaxAbsScaler"):
        scale = 1.0 / scaler.scale_ if getattr(scaler, "scale_", None) is not None else np.ones(width)
        centre = getattr(scaler, "mean_" if kind == "StandardScaler" else "center_", None)
        centred = centre is not None and getattr(scaler, "with_mean", getattr(scaler, "with_centering", False))
        return scale, -np.asarray(centre) * scale if centred else np.zeros(width)
    raise InvalidOption(f"linear explains models behind scalers; {kind} is none that it knows")
