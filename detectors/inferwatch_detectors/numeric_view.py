"""Rows as numbers alone, for scores that know nothing else: categories by how surprising they are, no gaps."""

from __future__ import annotations

import numpy as np

from inferwatch.rows import Matrix, Schema
from inferwatch_detectors.surprisal import surprisal, surprisals_of

_LARGEST = 1e30  # within float32, which scikit-learn's trees compare in


class NumericView:
    """Turns rows into numbers: missing ones become the median of the fitted rows, categories -2 log of their share."""

    def __init__(self, rows: Matrix, schema: Schema) -> None:
        self._surprisals = {
            index: surprisal(rows[:, index], feature)
            for index, feature in enumerate(schema.features)
            if feature.kind == "categorical"
        }
        self._medians = np.array([_median(column) for column in rows.T])

    def of(self, rows: Matrix) -> Matrix:
        """Return rows (n, d) as numbers without gaps, none beyond 1e30."""
        view = rows.clip(-_LARGEST, _LARGEST)
        absent = np.isnan(view)
        if absent.any():
            view = np.where(absent, self._medians, view)
        for index, known in self._surprisals.items():
            view[:, index] = surprisals_of(rows[:, index], known)
        return view


def _median(column: Matrix) -> float:
    present = column[~np.isnan(column)]
    return float(np.median(present)) if len(present) else 0.0
