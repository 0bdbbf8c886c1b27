"""Tree SHAP: exact Shapley values of tree ensembles, from tables that the ensemble's leaves are made into once.

A leaf that is reached where all its L conditions hold is a game of L players. For one explained row x and one
background row b, only the conditions that one of the two meets and the other does not have a value, which is known in
closed form; so for each leaf and each of the 2^L patterns of what x meets, the average over the background can be
written down beforehand. Explaining a row is then looking up its patterns. (The idea of the tables: WOODELF, AAAI 2026;
the games: Lundberg et al., Nature Machine Intelligence 2, 2020.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from inferwatch.explanation import Attribution, Target
from inferwatch.rows import Matrix, Schema
from inferwatch_explainers.arguments import checked_rows, feature_names, shuffled_background
from inferwatch_explainers.leaves import Leaves, leaves_of
from inferwatch_explainers.model_target import attributed, check_outputs
from inferwatch_explainers.tree_tables import Game, Tables


class TreeShap:
    """Explains predictions of a scikit-learn tree, forest or gradient boosting, exactly and without asking it anything.

    `estimator` is the fitted model. `interventional` fills absent features from the background (m, d), as every other
    explainer does; `path_dependent` follows the training rows down the trees instead, and leaves the background out of
    account. Boosted classifiers are explained on their decision function, forests on probabilities.

    Raises `InvalidOption` for other models and `InvalidReference` for an empty background. Cost: one look-up a
    condition of each leaf; once, 2^L patterns a leaf of L features.

    >>> from sklearn.tree import DecisionTreeRegressor
    >>> rows = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> both = DecisionTreeRegressor().fit(rows, rows.prod(axis=1))
    >>> TreeShap(both, rows).explain(rows[3:]).values.tolist()
    [[0.375, 0.375]]
    """

    method = "tree_shap"

    def __init__(
        self,
        estimator: Any,  # noqa: ANN401 - scikit-learn has no types
        background: Matrix,
        *,
        schema: Schema | None = None,
        perturbation: Literal["interventional", "path_dependent"] = "interventional",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        rows = shuffled_background(background, 0)
        self._leaves = leaves_of(estimator)
        check_outputs(estimator, rows, self._leaves.outputs(rows), self.method)
        self._features = feature_names(schema, rows.shape[1])
        game: Game
        if perturbation == "interventional":
            game = _Interventional(self._leaves, rows)
            self._base = self._leaves.outputs(rows).mean(axis=0)
        else:
            game = _PathDependent(self._leaves)
            covers = np.multiply.reduceat(self._leaves.cover, self._leaves.starts)
            self._base = self._leaves.base + covers @ self._leaves.values
        self._tables = Tables(self._leaves, game)
        self._clock = clock

    def explain(self, rows: Matrix, /, *, target: Target = None) -> Attribution:
        """Return the attribution of each row (n, d), for its largest output unless `target` is the index of another.

        Raises `InvalidRows` for another width, no rows or values that are not finite, and `InvalidOption` for a target
        that the model lacks.
        """
        started = self._clock()
        rows = checked_rows(rows, len(self._features))
        values, prediction, chosen, targets = self._tables.attribute(rows, target, len(self._features))
        base = self._base[chosen]
        return attributed(
            self.method, self._features, values, base, prediction, targets, elapsed_s=self._clock() - started
        )


class _Interventional:
    """Absent features are those of a background row.

    Of the conditions that only the explained row meets (a of them) and those that only the background row meets (c),
    the leaf is reached by exactly the coalitions with all of the first and none of the second: (a - 1)! c! / (a + c)!
    for each of the first, and - a! (c - 1)! / (a + c)! for each of the second.
    """

    def __init__(self, leaves: Leaves, background: Matrix) -> None:
        self._met = leaves.meets(leaves.cells(background)).astype(np.float64)
        self._gain, self._loss = _orders(leaves.groups[-1].length)

    def shares(self, conditions: NDArray[np.int64], explained: NDArray[np.bool_]) -> Matrix:
        met = self._met[conditions]
        x = explained.transpose(1, 0, 2).astype(np.float64)
        not_x, not_b = 1.0 - x, 1.0 - met
        only_x, only_b = (x @ not_b).astype(np.int64), (not_x @ met).astype(np.int64)
        reached = (not_x @ not_b == 0.0) / met.shape[2]
        for_x, for_b = reached * self._gain[only_x, only_b], reached * self._loss[only_x, only_b]
        shares = x * (for_x @ not_b.transpose(0, 2, 1)) - not_x * (for_b @ met.transpose(0, 2, 1))
        return np.asarray(shares.transpose(1, 0, 2))


class _PathDependent:
    """Absent features are those of the training rows that came the same way, independently of each other.

    The leaf's value for a coalition is then a product with a factor a condition: 0 or 1 by the explained row, or the
    cover. The Shapley value of condition i is (x_i - r_i) times the integral over t in (0, 1) of the product over the
    others of t x_j + (1 - t) r_j (Owen, "Multilinear extensions of games", 1972), which Gauss and Legendre's nodes give
    exactly.
    """

    def __init__(self, leaves: Leaves) -> None:
        self._cover = leaves.cover

    def shares(self, conditions: NDArray[np.int64], explained: NDArray[np.bool_]) -> Matrix:
        cover = self._cover[conditions]
        t, weights = _nodes((cover.shape[1] + 1) // 2)
        factors = t * explained[:, :, None, :] + (1 - t) * cover[:, None, :]
        others = factors.prod(axis=3, keepdims=True) / factors
        return np.asarray((explained - cover) * np.einsum("q,ngql->ngl", weights, others))


@lru_cache
def _nodes(count: int) -> tuple[Matrix, Matrix]:
    """Return Gauss and Legendre's nodes in (0, 1), as a column, and their weights."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return ((nodes + 1) / 2)[:, None], weights / 2


def _orders(most: int) -> tuple[Matrix, Matrix]:
    """Return (a - 1)! c! / (a + c)! and a! (c - 1)! / (a + c)! for a, c up to `most`; 0 where a or c is 0."""
    gain, loss = np.zeros((most + 1, most + 1)), np.zeros((most + 1, most + 1))
    for a in range(most + 1):
        for c in range(most + 1 - a):
            gain[a, c] = 1.0 / (a * math.comb(a + c, a)) if a else 0.0
            loss[a, c] = 1.0 / (c * math.comb(a + c, a)) if c else 0.0
    return gain, loss
