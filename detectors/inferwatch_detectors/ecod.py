"""Outliers by empirical tail probabilities, feature by feature, against a prepared reference."""

from __future__ import annotations

import numpy as np

from inferwatch.rows import Matrix, Schema
from inferwatch_detectors.numeric_view import NumericView


class TailScore:
    """The largest of three sums of -log tail probabilities: left, right, and the side each feature skews to.

    Z. Li, Y. Zhao, X. Hu, N. Botta, C. Ionescu and G. Chen, IEEE TKDE 35 (2023). There a batch is ranked among itself;
    here every row is ranked among the fitted ones, so that its score does not depend on the rows beside it. Beyond
    all of them the tail goes on from 1 / (n + 1) as 1 / (1 + distance in standard deviations): farther is always more.
    """

    def __init__(self, rows: Matrix, schema: Schema) -> None:
        self._view = NumericView(rows, schema)
        self._sorted = np.sort(self._view.of(rows), axis=0)
        deviations = self._sorted - self._sorted.mean(axis=0)
        sd = self._sorted.std(axis=0)
        self._sd = np.where(sd > 0, sd, 1.0)
        self._skewed_left = (deviations**3).mean(axis=0) < 0

    def score(self, rows: Matrix) -> Matrix:
        """Return the score (n,) of each row, at least 0."""
        view, count = self._view.of(rows), len(self._sorted)
        left, right = np.empty(view.shape), np.empty(view.shape)
        for index, column in enumerate(self._sorted.T):
            left[:, index] = np.searchsorted(column, view[:, index], side="right")
            right[:, index] = count - np.searchsorted(column, view[:, index], side="left")
        left, right = -np.log((left + 1) / (count + 1)), -np.log((right + 1) / (count + 1))
        left += np.log1p(np.maximum(self._sorted[0] - view, 0) / self._sd)
        right += np.log1p(np.maximum(view - self._sorted[-1], 0) / self._sd)
        skewed = np.where(self._skewed_left, left, right)
        return np.asarray(np.maximum(np.maximum(left.sum(axis=1), right.sum(axis=1)), skewed.sum(axis=1)))
