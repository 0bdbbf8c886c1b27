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
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from inferwatch.explanation import Attribution, Target
from inferwatch.rows import Matrix, Schema
from inferwatch_explainers.arguments import checked_rows, feature_names, shuffled_background
from inferwatch_explainers.leaves import MANY_ROWS, Group, Leaves, leaves_of
from inferwatch_explainers.model_target import attributed, check_outputs, chosen_outputs

_TABLE_FEATURES = 15
"""Leaves with more conditions have no table, and are worked out for each row."""

_TABLE_CELLS = 16_000_000
"""What all tables hold, 128 MB and seconds of work; in a larger ensemble leaves with most conditions go without."""

_CHUNK_CELLS = 4_000_000

_ROWS_AT_ONCE = 48
"""So many rows are looked up together: fewer cost more calls, and the cells of more do not fit a processor's caches."""


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
        game: _Game
        if perturbation == "interventional":
            game = _Interventional(self._leaves, rows)
            self._base = self._leaves.outputs(rows).mean(axis=0)
        else:
            game = _PathDependent(self._leaves)
            covers = np.multiply.reduceat(self._leaves.cover, self._leaves.starts)
            self._base = self._leaves.base + covers @ self._leaves.values
        self._tables = _Tables(self._leaves, game)
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


class _Game(Protocol):
    """Shares the value 1 of leaves out over their conditions."""

    def shares(self, conditions: NDArray[np.int64], explained: NDArray[np.bool_]) -> Matrix:
        """Return Shapley values (n, g, L) of the conditions (g, L) of g leaves, by which of them n rows meet."""
        ...


class _Interventional:
    """Absent features are those of a background row.

    Of the conditions that only the explained row meets (a of them) and those that only the background row meets (c),
    the leaf is reached by exactly the coalitions with all of the first and none of the second: (a - 1)! c! / (a + c)!
    for each of the first, and - a! (c - 1)! / (a + c)! for each of the second.
    """

    def __init__(self, leaves: Leaves, background: Matrix) -> None:
        self._met = leaves.meets(background).astype(np.float64)
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


def _all_patterns(count: int) -> NDArray[np.bool_]:
    return (np.arange(1 << count)[:, None] >> np.arange(count) & 1).astype(bool)


class _Tables:
    """For each condition of each leaf, its share of the leaf's value by the pattern of what the explained row meets.

    Leaves of equally many conditions are worked out together. Where the model has one output, tables hold the shares
    of that, so that a look-up is all there is to do.
    """

    def __init__(self, leaves: Leaves, game: _Game) -> None:
        self._leaves, self._game = leaves, game
        self._single = leaves.values.shape[1] == 1
        cells = accumulate((group.leaves.stop - group.leaves.start) * _cells(group) for group in leaves.groups)
        self._shallow = [
            group
            for group, so_far in zip(leaves.groups, cells, strict=True)
            if group.length <= _TABLE_FEATURES and so_far <= _TABLE_CELLS
        ]
        deep = leaves.groups[len(self._shallow) :]
        self._deep = [part for group in deep for part in _parts(group, _ROWS_AT_ONCE)]
        self._weights = np.zeros((len(leaves.feature), 1), np.int64)
        bases, tables, size = [np.empty(0, np.int64)], [np.zeros(1)], 1
        for group in self._shallow:
            for leaf, conditions in _parts(group, 1 << group.length):
                tables.append(self._table_of(leaf, conditions))
                each = np.arange(len(conditions))[:, None] * _cells(group) + np.arange(group.length)
                bases.append((size + each).ravel())
                self._weights[conditions, 0] = group.length << np.arange(group.length)
                size += tables[-1].size
        self._table, based = np.concatenate(tables), np.concatenate(bases)
        order = np.argsort(leaves.feature[: len(based)], kind="stable")
        leaf_of = np.searchsorted(leaves.starts, np.arange(len(based)), side="right") - 1
        self._bases, self._leaf_of = based[order][:, None], leaf_of[order]
        self._present, self._bounds = np.unique(leaves.feature[order], return_index=True)
        self._values = leaves.values[self._leaf_of]
        self._full = np.concatenate([np.zeros(0, np.int32), *map(_full, self._shallow)])[:, None]

    def attribute(self, rows: Matrix, target: Target, width: int) -> _Attributed:
        """Return the Shapley values of rows (n, d) over so many features, and what is explained of each."""
        size = max(1, min(_ROWS_AT_ONCE, _CHUNK_CELLS // len(self._leaves.feature)))
        if len(rows) <= size:
            return self._part(rows, target, width)
        parts = [self._part(part, target, width) for part in np.array_split(rows, math.ceil(len(rows) / size))]
        return _Attributed(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.prediction for part in parts]),
            np.concatenate([part.chosen for part in parts]),
            tuple(chain.from_iterable(part.targets for part in parts)),
        )

    def _part(self, rows: Matrix, target: Target, width: int) -> _Attributed:
        met = self._leaves.meets(rows)
        patterns = self._patterns(met)
        outputs = self._leaves.summed(self._reached(met, patterns))
        chosen, targets = chosen_outputs(outputs, target)
        values = np.zeros((width, len(rows)))
        if self._shallow:
            places = patterns.take(self._leaf_of, axis=0)
            places += self._bases
            shares = self._table.take(places, mode="clip")  # none lies outside, and looking whether one does takes time
            if not self._single:
                shares *= self._values[:, chosen]
            values[self._present] = self._by_feature(shares)
        for leaf, conditions in self._deep:
            shares = self._game.shares(conditions, met[conditions].transpose(2, 0, 1)).transpose(1, 2, 0)
            np.add.at(values, self._leaves.feature[conditions], shares * self._leaves.values[leaf][:, None, chosen])
        return _Attributed(values.T, outputs[np.arange(len(rows)), chosen], chosen, targets)

    def _by_feature(self, shares: Matrix) -> Matrix:
        """Return the sums of the shares (conditions, r) by feature, as products, which are faster for many rows."""
        if shares.shape[1] < MANY_ROWS:
            return np.asarray(np.add.reduceat(shares, self._bounds, axis=0))
        parts = np.split(shares, self._bounds[1:])
        return np.stack([np.ones(len(part)) @ part for part in parts])

    def _patterns(self, met: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return where in the tables of the leaves (leaves, r) the shares by what rows meet begin."""
        if met.shape[1] < MANY_ROWS:
            return np.asarray(np.add.reduceat(met * self._weights, self._leaves.starts, axis=0))
        return np.concatenate(
            [np.empty((0, met.shape[1]), np.int64), *(group.length * group.patterns(met) for group in self._shallow)]
        )

    def _reached(self, met: NDArray[np.bool_], patterns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which leaves (leaves, r) rows reach: where there are tables, the pattern says so."""
        reached = patterns[: len(self._full)] == self._full
        deep = [group.folded(np.logical_and, met) for group in self._leaves.groups[len(self._shallow) :]]
        return np.concatenate([reached, *deep]) if deep else reached

    def _table_of(self, leaf: slice, conditions: NDArray[np.int64]) -> Matrix:
        count = conditions.shape[1]
        patterns = np.broadcast_to(_all_patterns(count)[:, None], (1 << count, len(conditions), count))
        shares = self._game.shares(conditions, patterns).transpose(1, 0, 2)
        return (shares * self._leaves.values[leaf][:, None] if self._single else shares).ravel()


class _Attributed(NamedTuple):
    """Shapley values (n, d) of the outputs `chosen` (n,), which are `prediction` (n,) and stated as `targets`."""

    values: Matrix
    prediction: Matrix
    chosen: NDArray[np.int64]
    targets: tuple[Target, ...]


def _cells(group: Group) -> int:
    """Return the size of the table of each leaf of a group: a share for each condition by each pattern."""
    return group.length << group.length


def _full(group: Group) -> NDArray[np.int32]:
    """Return the pattern of all conditions, for each leaf of a group that has tables."""
    return np.full(group.leaves.stop - group.leaves.start, _cells(group) - group.length, np.int32)


def _parts(group: Group, patterns: int) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Yield leaves with their conditions (g, count), so few at once that shares by so many patterns fit the memory."""
    conditions = np.arange(group.conditions.start, group.conditions.stop).reshape(-1, group.length)
    size = max(1, _CHUNK_CELLS // patterns >> 7)
    for start in range(0, len(conditions), size):
        part = conditions[start : start + size]
        yield slice(group.leaves.start + start, group.leaves.start + start + len(part)), part


def _orders(most: int) -> tuple[Matrix, Matrix]:
    """Return (a - 1)! c! / (a + c)! and a! (c - 1)! / (a + c)! for a, c up to `most`; 0 where a or c is 0."""
    gain, loss = np.zeros((most + 1, most + 1)), np.zeros((most + 1, most + 1))
    for a in range(most + 1):
        for c in range(most + 1 - a):
            gain[a, c] = 1.0 / (a * math.comb(a + c, a)) if a else 0.0
            loss[a, c] = 1.0 / (c * math.comb(a + c, a)) if c else 0.0
    return gain, loss
