"""Models whose Shapley values are known, or that interact enough to be hard."""

from __future__ import annotations

from itertools import permutations
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.protocols import Predict
from inferwatch.rows import Matrix


class Recorder:
    """A predict function that keeps every matrix it was asked about."""

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self.asked: list[Matrix] = []

    def __call__(self, rows: Matrix) -> NDArray[Any]:
        self.asked.append(rows.copy())
        return self._predict(rows)


def interacting(rows: Matrix) -> Matrix:
    """Return a function in which features act alone, in threes and all together.

    Interactions of two at most would make it easy: those are even under complement, and pairs leave no error.
    """
    after, before = np.roll(rows, -1, axis=1), np.roll(rows, 1, axis=1)
    threes = (before * rows * after).sum(axis=1)
    return np.asarray(np.sin(1.5 * rows).sum(axis=1) + threes + 3.0 * np.tanh(rows.sum(axis=1)))


def permutation_shapley(predict: Predict, background: Matrix, row: Matrix) -> Matrix:
    """Return Shapley's own formula (1953): a feature's gain on joining, averaged over every order of joining."""
    d = len(row)
    values = np.zeros(d)
    for order in permutations(range(d)):
        filled = background.copy()
        before = predict(filled).mean()
        for feature in order:
            filled[:, feature] = row[feature]
            after = predict(filled).mean()
            values[feature] += after - before
            before = after
    return values / factorial(d)
