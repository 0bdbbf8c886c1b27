"""Isolation forest: scikit-learn's trees, walked for all trees at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import MissingExtra
from inferwatch.rows import Matrix, Schema
from inferwatch_detectors.numeric_view import NumericView

_TREES = 100
_CHUNK = 1024


class IsolationScore:
    """How few random cuts isolate a row (F. Liu, K. Ting and Z. Zhou, ICDM 2008), in (0, 1); usual is 0.5.

    The trees are those of `sklearn.ensemble.IsolationForest`, fitted with 100 trees of up to 256 rows; the score is the
    negative of its `score_samples`. The trees lie in flat arrays and a row descends all of them in step, which spares
    scikit-learn's fixed cost a call.
    """

    def __init__(self, rows: Matrix, schema: Schema, seed: int = 0) -> None:
        try:
            from sklearn.ensemble import IsolationForest
        except ImportError as error:
            raise MissingExtra("the isolation_forest detector", "detect") from error
        self._view = NumericView(rows, schema)
        forest = IsolationForest(n_estimators=_TREES, random_state=seed).fit(self._view.of(rows).astype(np.float32))
        trees = [estimator.tree_ for estimator in forest.estimators_]
        used = [np.asarray(chosen) for chosen in forest.estimators_features_]
        starts = np.concatenate([[0], np.cumsum([tree.node_count for tree in trees])])
        self._roots = starts[:-1]
        self._depth = max(tree.max_depth for tree in trees)
        self._feature = np.concatenate(
            [chosen[np.maximum(tree.feature, 0)] for tree, chosen in zip(trees, used, strict=True)]
        )
        self._threshold = np.concatenate([tree.threshold for tree in trees])
        self._left = _joined([tree.children_left for tree in trees], starts)
        self._right = _joined([tree.children_right for tree in trees], starts)
        self._length = np.concatenate([_depths(tree) + _average_path(tree.n_node_samples) for tree in trees])
        self._scale = _TREES * float(_average_path(np.array([forest.max_samples_]))[0])

    def score(self, rows: Matrix) -> Matrix:
        """Return the score (n,) of each row."""
        view = self._view.of(rows).astype(np.float32)
        parts = [self._scored(view[start : start + _CHUNK]) for start in range(0, len(view), _CHUNK)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _scored(self, view: NDArray[np.float32]) -> Matrix:
        values, width = view.ravel(), view.shape[1]
        base = (np.arange(len(view)) * width)[:, np.newaxis]
        nodes = np.broadcast_to(self._roots, (len(view), _TREES))
        for _ in range(self._depth):
            below = values[base + self._feature[nodes]] <= self._threshold[nodes]
            nodes = np.where(below, self._left[nodes], self._right[nodes])
        return np.asarray(2 ** (-self._length[nodes].sum(axis=1) / self._scale))


def _joined(children: Sequence[NDArray[np.intp]], starts: NDArray[np.intp]) -> NDArray[np.intp]:
    """The children of all trees' nodes; leaves lead to themselves, so that all rows can take equal steps."""
    moved = np.concatenate([np.where(own < 0, -1, own + start) for own, start in zip(children, starts, strict=False)])
    return np.where(moved < 0, np.arange(len(moved)), moved)


def _depths(tree: object) -> Matrix:
    """The depth (nodes,) of each node; a parent comes before its children."""
    left, right = np.asarray(tree.children_left), np.asarray(tree.children_right)  # type: ignore[attr-defined]
    depths = np.zeros(len(left))
    for node in np.flatnonzero(left >= 0):
        depths[left[node]] = depths[right[node]] = depths[node] + 1
    return depths


def _average_path(samples: NDArray[np.integer]) -> Matrix:
    """The mean path length (k,) of an unsuccessful search among so many samples (eq. 1 there)."""
    count = np.maximum(np.asarray(samples, dtype=np.float64), 3)
    many = 2 * (np.log(count - 1) + np.euler_gamma) - 2 * (count - 1) / count
    return np.asarray(np.where(samples <= 1, 0.0, np.where(samples == 2, 1.0, many)))
