"""Tree SHAP against enumeration of all coalitions, of the model itself and of what its paths say."""

from __future__ import annotations

from itertools import permutations
from math import factorial
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_friedman1
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from inferwatch.errors import InvalidOption, InvalidReference, InvalidRows
from inferwatch.rows import Matrix
from inferwatch_explainers import ExactShapley, TreeShap, tree_tables

ROWS, VALUES = make_friedman1(300, 6, random_state=0)
BACKGROUND, EXPLAINED = ROWS[:30], ROWS[200:220]
TWO, THREE = np.median(VALUES) < VALUES, np.digitize(VALUES, np.quantile(VALUES, [0.3, 0.7]))

MODELS = [
    (DecisionTreeRegressor(random_state=0), VALUES, "predict"),
    (DecisionTreeClassifier(random_state=0), THREE, "predict_proba"),
    (RandomForestRegressor(8, random_state=0), VALUES, "predict"),
    (RandomForestClassifier(8, random_state=0), TWO, "predict_proba"),
    (ExtraTreesRegressor(8, random_state=0), VALUES, "predict"),
    (GradientBoostingRegressor(n_estimators=15, random_state=0), VALUES, "predict"),
    (GradientBoostingClassifier(n_estimators=10, random_state=0), TWO, "decision_function"),
    (GradientBoostingClassifier(n_estimators=5, random_state=0), THREE, "decision_function"),
    (HistGradientBoostingRegressor(max_iter=15, random_state=0), VALUES, "predict"),
    (HistGradientBoostingClassifier(max_iter=10, random_state=0), THREE, "decision_function"),
]


@pytest.mark.parametrize(("estimator", "answers", "says"), MODELS, ids=lambda each: type(each).__name__)
def test_values_are_those_of_all_coalitions(estimator: Any, answers: Matrix, says: str) -> None:
    estimator.fit(ROWS, answers)
    exact = ExactShapley(getattr(estimator, says), BACKGROUND).explain(EXPLAINED)
    tree = TreeShap(estimator, BACKGROUND).explain(EXPLAINED)
    np.testing.assert_allclose(tree.values, exact.values, atol=1e-10)
    np.testing.assert_allclose(tree.base_value, exact.base_value)
    np.testing.assert_allclose(tree.prediction, exact.prediction)
    np.testing.assert_allclose(tree.gap, 0, atol=1e-10)
    assert tree.target == exact.target
    assert tree.exact
    assert (tree.predictor_calls, tree.predictor_rows) == (0, 0)
    alone = TreeShap(estimator, BACKGROUND).explain(EXPLAINED[:1])  # few rows are summed otherwise than many
    np.testing.assert_allclose(alone.values, tree.values[:1], atol=1e-10)


def test_leaves_of_many_features_need_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, values = make_friedman1(800, 30, noise=20.0, random_state=0)
    estimator = DecisionTreeRegressor(random_state=0).fit(rows, values)
    shap = TreeShap(estimator, rows[:5])
    assert shap._leaves.groups[-1].length > 8
    tree = shap.explain(rows[20:40])
    np.testing.assert_allclose(tree.prediction, estimator.predict(rows[20:40]))
    np.testing.assert_allclose(tree.gap, 0, atol=1e-9)
    for name, bound in (("_TABLE_FEATURES", 8), ("_TABLE_CELLS", 10_000), ("_TABLE_CELLS", 0)):
        monkeypatch.setattr(tree_tables, name, bound)
        less = TreeShap(estimator, rows[:5]).explain(rows[20:40])
        np.testing.assert_allclose(less.values, tree.values, atol=1e-9)


def path_dependent_worth(estimator: Any, row: Matrix, coalition: set[int], node: int = 0) -> float:
    """Return the tree's expectation as Lundberg et al. (2020, algorithm 1) define it, node by node."""
    tree = estimator.tree_
    left, right = int(tree.children_left[node]), int(tree.children_right[node])
    if left < 0:
        return float(tree.value[node, 0, 0])
    if int(tree.feature[node]) in coalition:
        below = np.float32(row[tree.feature[node]]) <= tree.threshold[node]
        return path_dependent_worth(estimator, row, coalition, left if below else right)
    share = tree.n_node_samples[left] / tree.n_node_samples[node]
    return float(
        share * path_dependent_worth(estimator, row, coalition, left)
        + (1 - share) * path_dependent_worth(estimator, row, coalition, right)
    )


def test_path_dependent_values_are_those_of_the_walk_down_the_tree() -> None:
    estimator = DecisionTreeRegressor(max_depth=6, random_state=0).fit(ROWS[:, :5], VALUES)
    shap = TreeShap(estimator, BACKGROUND[:, :5], perturbation="path_dependent").explain(EXPLAINED[:2, :5])
    for row, values, base in zip(EXPLAINED[:, :5], shap.values, shap.base_value, strict=False):
        expected = np.zeros(5)
        for order in permutations(range(5)):
            joined: set[int] = set()
            before = path_dependent_worth(estimator, row, joined)
            for feature in order:
                joined.add(feature)
                after = path_dependent_worth(estimator, row, joined)
                expected[feature] += (after - before) / factorial(5)
                before = after
        np.testing.assert_allclose(values, expected, atol=1e-9)
        assert base == pytest.approx(VALUES.mean())


def test_a_tree_without_splits_gives_nothing_to_anybody() -> None:
    stump = DecisionTreeRegressor(max_depth=1).fit(ROWS, np.ones(300))
    attribution = TreeShap(stump, BACKGROUND).explain(EXPLAINED)
    assert not attribution.values.any()
    np.testing.assert_allclose(attribution.base_value, 1.0)


def test_another_class_can_be_the_target() -> None:
    forest = RandomForestClassifier(5, random_state=0).fit(ROWS, THREE)
    attribution = TreeShap(forest, BACKGROUND).explain(EXPLAINED, target=1)
    np.testing.assert_allclose(attribution.prediction, forest.predict_proba(EXPLAINED)[:, 1])
    with pytest.raises(InvalidOption, match="0 to 2"):
        TreeShap(forest, BACKGROUND).explain(EXPLAINED, target=3)


@pytest.mark.parametrize(
    "estimator",
    [
        LinearRegression().fit(ROWS, VALUES),
        IsolationForest(n_estimators=2).fit(ROWS),
        HistGradientBoostingRegressor(max_iter=2, categorical_features=[0]).fit(np.round(ROWS * 4), VALUES),
        HistGradientBoostingRegressor(max_iter=2, loss="poisson").fit(ROWS, VALUES),
        DecisionTreeRegressor(max_depth=2).fit(ROWS, np.stack([VALUES, VALUES], axis=1)),
        GradientBoostingRegressor(n_estimators=2, init=LinearRegression()).fit(ROWS, VALUES),
    ],
    ids=["linear", "isolation", "categorical", "link", "two-targets", "init"],
)
def test_other_models_are_refused(estimator: Any) -> None:
    with pytest.raises(InvalidOption, match="tree_shap"):
        TreeShap(estimator, BACKGROUND)


def test_wrong_rows_and_backgrounds_are_refused() -> None:
    tree = DecisionTreeRegressor(max_depth=2).fit(ROWS, VALUES)
    with pytest.raises(InvalidReference):
        TreeShap(tree, np.empty((0, 6)))
    with pytest.raises(InvalidRows, match="6 features"):
        TreeShap(tree, BACKGROUND).explain(np.ones((1, 5)))
    with pytest.raises(InvalidRows, match="not finite"):
        TreeShap(tree, BACKGROUND).explain(np.full((1, 6), np.nan))
