"""Isolation forest: scikit-learn's trees, walked for all trees at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import MissingExtra
from inferwatch.rows import Matrix, Schema
from inferwatch_detectors.numeric_view import NumericView

_TREES = 100
_CHUNK = 32  # more would have the allocator hand its memory back after every step
_LEVELS = 4  # of each half; trees of 256 rows have no more than 8
_EXITS = 2**_LEVELS


class IsolationScore:
    """How few random cuts isolate a row (F. Liu, K. Ting and Z. Zhou, ICDM 2008), in (0, 1); usual is 0.5.

    The trees are those of `sklearn.ensemble.IsolationForest`, fitted with 100 trees of up to 256 rows; the score is the
    negative of its `score_samples`. A row walks all trees at once, in two strides of 4 levels: it is compared with all
    15 nodes that it may meet in a stride, and the 15 answers, read as a number, tell where it comes out.
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
        feature = np.concatenate(
            [chosen[np.maximum(tree.feature, 0)] for tree, chosen in zip(trees, used, strict=True)]
        )
        threshold = _rounded_down(np.concatenate([tree.threshold for tree in trees]))
        left = _joined([tree.children_left for tree in trees], starts)
        right = _joined([tree.children_right for tree in trees], starts)
        nodes, depth = starts[:-1, np.newaxis], np.zeros((_TREES, 1))
        levels = []
        for _ in range(2 * _LEVELS):
            splits = left[nodes] != nodes
            levels.append((feature[nodes], np.where(splits, threshold[nodes], np.float32(np.inf))))
            depth = np.repeat(depth + splits, 2, axis=1)
            nodes = np.stack([left[nodes], right[nodes]], axis=-1).reshape(_TREES, -1)
        samples = np.concatenate([tree.n_node_samples for tree in trees])
        self._upper = _stride(levels[:_LEVELS], _TREES)
        self._lower = _stride(levels[_LEVELS:], _TREES * _EXITS)
        self._length = (depth + _average_path(samples)[nodes]).ravel()
        self._first = np.arange(_TREES) * _EXITS
        self._scale = _TREES * float(_average_path(np.array([forest.max_samples_]))[0])

    def score(self, rows: Matrix) -> Matrix:
        """Return the score (n,) of each row."""
        view = self._view.of(rows).astype(np.float32)
        parts = [self._scored(view[start : start + _CHUNK]) for start in range(0, len(view), _CHUNK)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _scored(self, view: NDArray[np.float32]) -> Matrix:
        count, width = view.shape
        features, thresholds = self._upper
        upper = _exits(view.take(features.ravel(), axis=1) > thresholds.ravel()) + self._first
        features, thresholds = (of.take(upper.ravel(), axis=0).reshape(count, -1) for of in self._lower)
        features += (np.arange(count) * width)[:, np.newaxis]
        lower = _exits(view.ravel().take(features) > thresholds)
        return np.asarray(2 ** (-self._length.take(upper * _EXITS + lower).sum(axis=1) / self._scale))


Stride = tuple[NDArray[np.intp], NDArray[np.float32]]
"""Features and thresholds (k, 16) of the 15 nodes below each of k nodes, level by level; the last one never splits."""


def _stride(levels: Sequence[Stride], entries: int) -> Stride:
    features = np.zeros((entries, _EXITS), dtype=np.intp)
    thresholds = np.full((entries, _EXITS), np.inf, dtype=np.float32)
    for level, (feature, threshold) in enumerate(levels):
        own = slice(2**level - 1, 2 ** (level + 1) - 1)
        features[:, own], thresholds[:, own] = feature.reshape(entries, -1), threshold.reshape(entries, -1)
    return features, thresholds


def _exits(beyond: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Where rows come out (n, k) of k strides, in [0, 16), by whether they go right at each of 16 nodes (n, 16 k)."""
    return _exit_of_answers().take(np.packbits(beyond, axis=1, bitorder="little").view("<u2"))


@cache
def _exit_of_answers() -> NDArray[np.uint8]:
    """The exit (32768,) for all answers: bit i of them is node i's, whose children are nodes 2 i + 1 and 2 i + 2."""
    answers = np.arange(2 ** (_EXITS - 1))
    node = np.zeros(len(answers), dtype=np.intp)
    for _ in range(_LEVELS):
        node = 2 * node + 1 + (answers >> node & 1)
    return np.asarray(node - (_EXITS - 1), dtype=np.uint8)


def _rounded_down(thresholds: Matrix) -> NDArray[np.float32]:
    """The largest float32 that are not above the thresholds: as many float32 lie on either side of them."""
    near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


def _joined(children: Sequence[NDArray[np.intp]], starts: NDArray[np.intp]) -> NDArray[np.intp]:
    """The children of all trees' nodes; leaves lead to themselves, so that all rows can take equal steps."""
    moved = np.concatenate([np.where(own < 0, -1, own + start) for own, start in zip(children, starts, strict=False)])
    return np.where(moved < 0, np.arange(len(moved)), moved)


def _average_path(samples: NDArray[np.integer]) -> Matrix:
    """The mean path length (k,) of an unsuccessful search among so many samples (eq. 1 there)."""
    count = np.maximum(np.asarray(samples, dtype=np.float64), 3)
    many = 2 * (np.log(count - 1) + np.euler_gamma) - 2 * (count - 1) / count
    return np.asarray(np.where(samples <= 1, 0.0, np.where(samples == 2, 1.0, many)))
