"""Ensembles of trees as their leaves: each a product of conditions, one a feature, times a value.

A leaf of a decision tree is reached where every feature on its path lies in an interval. Written so, the ensemble is a
sum of products of indicators, and its Shapley values are sums over leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption
from inferwatch.rows import Matrix

_ALL = slice(None)


class Group(NamedTuple):
    """Leaves of `length` conditions each, and where those conditions lie."""

    length: int
    leaves: slice
    conditions: slice


@dataclass(frozen=True, slots=True)
class Leaves:
    """The leaves of an ensemble of k outputs. Their conditions lie one behind the other, from `starts` of each leaf on,
    leaves of fewer conditions first: `groups` are those of equally many.

    A condition is `low < x <= high` of feature `feature`; `cover` is the share of training rows that keep to it, among
    those that reach its splits. `values` (leaves, k); `base` (k,) is added to their sum. `single` says that the model
    compares numbers as float32. `walk` are the leaves in the order of a walk down the trees.
    """

    feature: NDArray[np.int64]
    low: Matrix
    high: Matrix
    cover: Matrix
    starts: NDArray[np.int64]
    values: Matrix
    base: Matrix
    single: bool
    groups: tuple[Group, ...]
    walk: NDArray[np.int64]

    def cells(self, rows: Matrix) -> Matrix:
        """Return the values of rows (r, d) as the model compares them, (d, r)."""
        return np.ascontiguousarray((rows.astype(np.float32).astype(np.float64) if self.single else rows).T)

    def meets(self, cells: Matrix, conditions: NDArray[np.int64] | slice = _ALL) -> NDArray[np.bool_]:
        """Return whether each row (d, r) meets each of these conditions (...), (..., r)."""
        seen = cells.take(self.feature[conditions], axis=0)
        low, high = self.low[conditions], self.high[conditions]
        return np.asarray((seen > low[..., None]) & (seen <= high[..., None]))

    def outputs(self, rows: Matrix) -> Matrix:
        """Return the ensemble's outputs (r, k)."""
        reached = np.logical_and.reduceat(self.meets(self.cells(rows)), self.starts, axis=0)
        return np.asarray(self.base + (self.values.T @ reached).T)

    def conditions(self, leaf: int) -> dict[int, tuple[float, ...]]:
        """Return the bounds (low, high) of a leaf's conditions by feature."""
        stop = self.starts[leaf + 1] if leaf + 1 < len(self.starts) else len(self.feature)
        own = slice(self.starts[leaf], stop)
        bounds = zip(self.low[own].tolist(), self.high[own].tolist(), strict=True)
        return dict(zip(self.feature[own].tolist(), bounds, strict=True))


@dataclass(frozen=True, slots=True)
class Tree:
    """Arrays over nodes: children, -1 at leaves; up to the `threshold` rows go left; `value` (nodes, k), `cover`."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: Matrix
    value: Matrix
    cover: Matrix


def leaves_of(estimator: Any) -> Leaves:  # noqa: ANN401 - scikit-learn has no types
    """Return the leaves of a scikit-learn tree, forest, or gradient boosting, histograms included, or of a model
    that has them (`tree_model.TreeModel`).

    The outputs are what regressors predict, the probabilities of trees and forests, and the decision function of
    boosted classifiers. Raises `InvalidOption` for any other model, and for categorical splits.
    """
    if isinstance(leaves := getattr(estimator, "leaves", None), Leaves):
        return leaves
    kind = type(estimator).__name__
    if hasattr(estimator, "_predictors"):
        return _histogram_boosting(estimator)
    if kind in ("GradientBoostingClassifier", "GradientBoostingRegressor"):
        return _boosting(estimator)
    if kind in ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor"):
        return gather([_grown(estimator)], np.zeros(1), single=True)
    if kind in ("RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor"):
        share = 1.0 / len(estimator.estimators_)
        return gather([_grown(tree, share) for tree in estimator.estimators_], np.zeros(1), single=True)
    raise InvalidOption(
        f"tree_shap explains trees of scikit-learn, XGBoost and LightGBM and ensembles of them; this is a {kind}"
    )


def _grown(estimator: Any, share: float = 1.0) -> Tree:  # noqa: ANN401
    tree = estimator.tree_
    if tree.value.shape[1] != 1:
        raise InvalidOption("tree_shap explains models of one target")
    value = np.asarray(tree.value[:, 0, :], dtype=np.float64)
    if hasattr(estimator, "classes_"):
        value = value / value.sum(axis=1, keepdims=True)
    return _tree(tree, share * value)


def _tree(tree: Any, value: Matrix) -> Tree:  # noqa: ANN401
    left, right = tree.children_left.astype(np.int64), tree.children_right.astype(np.int64)
    cover = np.asarray(tree.weighted_n_node_samples, dtype=np.float64)
    return Tree(left, right, tree.feature.astype(np.int64), np.asarray(tree.threshold), value, cover)


def _boosting(estimator: Any) -> Leaves:  # noqa: ANN401
    if type(estimator.init_).__name__ not in ("DummyClassifier", "DummyRegressor", "str"):
        raise InvalidOption("tree_shap explains gradient boosting that begins with a constant")
    count = estimator.estimators_.shape[1]
    base = np.asarray(estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_))), dtype=np.float64)[0]
    trees = [
        _tree(grown.tree_, estimator.learning_rate * grown.tree_.value[:, 0, :1] * np.eye(count)[output])
        for stage in estimator.estimators_
        for output, grown in enumerate(stage)
    ]
    return gather(trees, base, single=True)


def _histogram_boosting(estimator: Any) -> Leaves:  # noqa: ANN401
    count = len(estimator._predictors[0])
    trees = []
    for stage in estimator._predictors:
        for output, grown in enumerate(stage):
            nodes = grown.nodes
            if nodes["is_categorical"].any():
                raise InvalidOption("tree_shap explains numeric splits; this model splits by categories")
            leaf = nodes["is_leaf"].astype(bool)
            left, right = (np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
            trees.append(
                Tree(
                    left,
                    right,
                    nodes["feature_idx"].astype(np.int64),
                    nodes["num_threshold"].astype(np.float64),
                    nodes["value"].astype(np.float64)[:, None] * np.eye(count)[output],
                    nodes["count"].astype(np.float64),
                )
            )
    return gather(trees, np.asarray(estimator._baseline_prediction, dtype=np.float64).reshape(-1), single=False)


def gather(trees: Sequence[Tree], base: Matrix, *, single: bool) -> Leaves:
    """Return the leaves of all trees, whose sum a base (k,) is added to."""
    walked = [leaf for tree in trees for leaf in _paths(tree)]
    order = np.argsort([len(path) or 1 for path, _ in walked], kind="stable")
    found = [walked[place] for place in order]
    conditions = [path or {0: (-np.inf, np.inf, 1.0)} for path, _ in found]  # a tree without splits is a constant
    flat = [(feature, *bounds) for path in conditions for feature, bounds in path.items()]
    feature, low, high, cover = (np.array(column) for column in zip(*flat, strict=True))
    starts = np.concatenate([[0], np.cumsum([len(path) for path in conditions])[:-1]]).astype(np.int64)
    values = np.array([value for _, value in found])
    spread = np.broadcast_to(base, values.shape[1:])
    groups = _groups([len(path) for path in conditions])
    return Leaves(feature.astype(np.int64), low, high, cover, starts, values, spread, single, groups, np.argsort(order))


def _groups(counts: Sequence[int]) -> tuple[Group, ...]:
    """Return the groups of leaves with so many conditions, in ascending order."""
    found, leaf, condition = [], 0, 0
    for count, leaves in sorted(Counter(counts).items()):
        found.append(Group(count, slice(leaf, leaf + leaves), slice(condition, condition + leaves * count)))
        leaf, condition = leaf + leaves, condition + leaves * count
    return tuple(found)


_Path = dict[int, tuple[float, float, float]]


def _paths(tree: Tree) -> Iterator[tuple[_Path, Matrix]]:
    """Yield every leaf as its conditions (low, high, cover) by feature, and its value."""
    waiting: list[tuple[int, _Path]] = [(0, {})]
    while waiting:
        node, path = waiting.pop()
        if tree.left[node] < 0:
            yield path, tree.value[node]
            continue
        feature, threshold = int(tree.feature[node]), float(tree.threshold[node])
        low, high, cover = path.get(feature, (-np.inf, np.inf, 1.0))
        for child, bounds in (
            (int(tree.left[node]), (low, min(high, threshold))),
            (int(tree.right[node]), (max(low, threshold), high)),
        ):
            share = cover * tree.cover[child] / tree.cover[node]
            waiting.append((child, path | {feature: (*bounds, share)}))
