"""How surprising a category is: -2 log of its share, on the scale of a squared distance."""

from __future__ import annotations

import numpy as np

from inferwatch.rows import Feature, Matrix


def surprisal(column: Matrix, feature: Feature) -> Matrix:
    """Return -2 log of the share in a column (n,) of each category, of unlisted ones, and of missing values: (k + 2,).

    What does not occur counts as half a row.
    """
    cells = len(feature.categories) + 2
    codes = np.where(np.isnan(column), cells - 1, column).astype(np.intp)
    counts = np.bincount(codes, minlength=cells).astype(np.float64)
    counts[counts == 0] = 0.5
    return np.asarray(-2 * np.log(counts / counts.sum()))


def surprisals_of(column: Matrix, known: Matrix) -> Matrix:
    """Return the surprisal (n,) of each code in a column, as `known` (k + 2,) has them."""
    return np.asarray(known[np.where(np.isnan(column), len(known) - 1, column).astype(np.intp)])
