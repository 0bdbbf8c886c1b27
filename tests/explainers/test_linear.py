from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PolynomialFeatures, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeRegressor

from inferwatch.errors import InvalidOption, InvalidRows
from inferwatch_explainers import ExactShapley, Linear

GENERATOR = np.random.default_rng(0)
ROWS = GENERATOR.normal(size=(200, 5)) * [1, 10, 0.1, 3, 1]
VALUES = ROWS @ [1.0, 0.2, -3.0, 0.0, 2.0] + 4
TWO, THREE = (VALUES > 4).astype(int), np.digitize(VALUES, [2.0, 5.0])


@pytest.mark.parametrize(
    ("estimator", "says"),
    [
        (LinearRegression().fit(ROWS, VALUES), "predict"),
        (make_pipeline(StandardScaler(), Ridge()).fit(ROWS, VALUES), "predict"),
        (make_pipeline(MinMaxScaler(), LinearRegression(fit_intercept=False)).fit(ROWS, VALUES), "predict"),
        (make_pipeline(RobustScaler(), MaxAbsScaler(), LogisticRegression()).fit(ROWS, TWO), "decision_function"),
        (make_pipeline(StandardScaler(with_mean=False), LinearSVC()).fit(ROWS, TWO), "decision_function"),
        (make_pipeline(StandardScaler(with_std=False), LogisticRegression()).fit(ROWS, THREE), "decision_function"),
    ],
    ids=["plain", "standard", "minmax", "robust", "svc", "classes"],
)
def test_values_are_those_of_all_coalitions(estimator: Any, says: str) -> None:
    exact = ExactShapley(getattr(estimator, says), ROWS[:50]).explain(ROWS[60:64])
    linear = Linear(estimator, ROWS[:50]).explain(ROWS[60:64])
    np.testing.assert_allclose(linear.values, exact.values, atol=1e-8)
    np.testing.assert_allclose(linear.base_value, exact.base_value)
    np.testing.assert_allclose(linear.prediction, exact.prediction)
    np.testing.assert_allclose(linear.gap, 0, atol=1e-9)
    assert linear.target == exact.target
    assert linear.exact


def test_another_class_can_be_the_target() -> None:
    estimator = LogisticRegression().fit(ROWS / 10, THREE)
    attribution = Linear(estimator, ROWS[:9] / 10).explain(ROWS[:2] / 10, target=0)
    np.testing.assert_allclose(attribution.prediction, estimator.decision_function(ROWS[:2] / 10)[:, 0])
    with pytest.raises(InvalidOption, match="0 to 2"):
        Linear(estimator, ROWS[:9]).explain(ROWS[:2], target=True)


@pytest.mark.parametrize(
    "estimator",
    [
        DecisionTreeRegressor(max_depth=1).fit(ROWS, VALUES),
        PoissonRegressor().fit(ROWS / 10, np.exp(ROWS[:, 0])),
        make_pipeline(PolynomialFeatures(1, include_bias=False), LinearRegression()).fit(ROWS, VALUES),
        LinearRegression().fit(ROWS[:, :3], VALUES),
    ],
    ids=["tree", "link", "step", "width"],
)
def test_other_models_are_refused(estimator: Any) -> None:
    with pytest.raises(InvalidOption):
        Linear(estimator, ROWS[:9])


def test_wrong_rows_are_refused() -> None:
    with pytest.raises(InvalidRows, match="5 features"):
        Linear(LinearRegression().fit(ROWS, VALUES), ROWS).explain(np.ones((2, 4)))
