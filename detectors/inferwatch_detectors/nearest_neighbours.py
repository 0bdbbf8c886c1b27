"""Outliers by the distance to their neighbours among the reference's rows."""

from __future__ import annotations

import numpy as np

from inferwatch.rows import Matrix, Schema

_NEIGHBOURS = 5
_CHUNK = 16  # more would have the allocator hand its memory back after every step
_LARGEST = 1e100


class NeighbourDistance:
    """The distance of a row to its 5th nearest fitted row (S. Ramaswamy, R. Rastogi and K. Shim, SIGMOD 2000).

    Numbers are standardised, missing ones at their mean; two different categories are 1 apart. Cost: O(rows kept times
    d) a row, in blocks.
    """

    def __init__(self, rows: Matrix, schema: Schema) -> None:
        self._categories = {
            index: len(feature.categories) + 2
            for index, feature in enumerate(schema.features)
            if feature.kind == "categorical"
        }
        self._numeric = [index for index in range(rows.shape[1]) if index not in self._categories]
        numbers = rows[:, self._numeric]
        present = ~np.isnan(numbers)
        counts = np.maximum(present.sum(axis=0), 1)
        self._mean = np.where(present, numbers, 0.0).sum(axis=0) / counts
        variance = np.where(present, (numbers - self._mean) ** 2, 0.0).sum(axis=0) / counts
        self._sd = np.where(variance > 1e-24 * np.maximum(1.0, self._mean**2), np.sqrt(variance), 1.0)
        self._fitted = self._points(rows)
        self._squares = (self._fitted**2).sum(axis=1)

    def score(self, rows: Matrix) -> Matrix:
        """Return the distance (n,) of each row."""
        if not len(rows):
            return np.empty(0)
        return np.concatenate([self._distances(rows[start : start + _CHUNK]) for start in range(0, len(rows), _CHUNK)])

    def _distances(self, rows: Matrix) -> Matrix:
        points = self._points(rows)
        squared = self._squares - 2 * (points @ self._fitted.T)
        nearest = min(_NEIGHBOURS, squared.shape[1]) - 1
        found = np.argpartition(squared, nearest, axis=1)[:, nearest]
        # the product's last digits hang on how many rows come at once, those of the difference do not
        return np.asarray(np.sqrt(((points - self._fitted[found]) ** 2).sum(axis=1)))

    def _points(self, rows: Matrix) -> Matrix:
        with np.errstate(over="ignore"):
            numbers = np.clip((rows[:, self._numeric] - self._mean) / self._sd, -_LARGEST, _LARGEST)
        parts = [np.nan_to_num(numbers)]
        for index, cells in self._categories.items():
            codes = np.where(np.isnan(rows[:, index]), cells - 1, rows[:, index]).astype(np.intp)
            parts.append(np.sqrt(0.5) * np.eye(cells)[codes])
        return np.hstack(parts)
