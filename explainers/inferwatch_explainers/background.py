"""The background of Shapley methods: the rows that stand for "this feature is not known"."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from inferwatch.errors import InvalidReference
from inferwatch.rows import Matrix, Schema

BACKGROUND_ROWS = 100
"""References up to this size are the background as a whole; of larger ones, so many rows are drawn."""


class Reference(Protocol):
    """What an explainer needs of a reference: the features, and a sample of rows (m, d) as the schema encodes them."""

    @property
    def schema(self) -> Schema:
        """The features of the model."""
        ...

    @property
    def rows(self) -> Matrix:
        """Rows (m, d)."""
        ...


def background_rows(reference: Reference, *, size: int = BACKGROUND_ROWS, seed: int = 0) -> Matrix:
    """Return the reference's rows, or `size` of them drawn with the seed when it has more.

    Rows with a missing value are left out, since a predictor that was never asked about them may not take them. Raises
    `InvalidReference` when no complete row is left.
    """
    complete = complete_rows(reference)
    if len(complete) <= size:
        return complete
    chosen = np.random.default_rng(seed).choice(len(complete), size, replace=False)
    return np.asarray(complete[np.sort(chosen)])


def complete_rows(reference: Reference) -> Matrix:
    """Return the reference's rows without a missing value. Raises `InvalidReference` when there are none."""
    complete = reference.rows[np.isfinite(reference.rows).all(axis=1)]
    if len(complete) == 0:
        raise InvalidReference("explanations need a reference with at least one row without missing values")
    return np.asarray(complete)
