"""Tables of Shapley values of trees: for each pattern of how a row's values lie, what each feature contributes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, groupby, pairwise
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from inferwatch.explanation import Target
from inferwatch.rows import Matrix
from inferwatch_explainers.leaves import Group, Leaves
from inferwatch_explainers.model_target import chosen_outputs
from inferwatch_explainers.pieces import Piece, pieces_of

_TABLE_FEATURES = 15
"""Leaves with more conditions have no table, and are worked out for each row."""

_TABLE_CELLS = 16_000_000
"""What all tables hold, 128 MB and seconds of work; in a larger ensemble leaves with most conditions go without."""

_CHUNK_CELLS = 4_000_000

_ROWS_AT_ONCE = 100
"""So many rows are looked up together: fewer cost more calls, and the cells of more do not fit a processor's caches."""

_MANY_ROWS = 16
"""Sums over so many rows side by side are faster as products."""


class Game(Protocol):
    """Shares the value 1 of leaves out over their conditions."""

    def shares(self, conditions: NDArray[np.int64], explained: NDArray[np.bool_]) -> Matrix:
        """Return Shapley values (n, g, L) of the conditions (g, L) of g leaves, by which of them n rows meet."""
        ...


class Attributed(NamedTuple):
    """Shapley values (n, d) of the outputs `chosen` (n,), which are `prediction` (n,) and stated as `targets`."""

    values: Matrix
    prediction: Matrix
    chosen: NDArray[np.int64]
    targets: tuple[Target, ...]


class Tables:
    """The tables of an ensemble's leaves, by pieces, and what is left over.

    A piece's table has a row a pattern: the shares of its features, and what is reached. The leaves' values are in it
    where they add to one output only; else the piece is one leaf, whose values its table is multiplied by.
    """

    def __init__(self, leaves: Leaves, game: Game) -> None:
        self._leaves, self._game = leaves, game
        self._single = leaves.values.shape[1] == 1
        shallow = _shallow(leaves)
        self._deep = [part for group in leaves.groups[len(shallow) :] for part in _parts(group, _ROWS_AT_ONCE)]
        self._pieces = pieces_of(leaves, shallow[-1].leaves.stop if shallow else 0)
        self._steps = _Steps(self._pieces)
        tables = self._filled(shallow)
        self._table = np.concatenate([np.zeros(1), *(table.ravel() for table in tables)])
        starts = np.cumsum([1, *(table.size for table in tables)])[:-1]
        columns = np.array(  # of what was reached last, in the order of the pieces
            [
                (place, start + column, feature)
                for place, (piece, start) in enumerate(zip(self._pieces, starts.tolist(), strict=True))
                for column, feature in enumerate([*piece.edges, _REACHED])
            ],
            dtype=np.int64,
        ).reshape(-1, 3)
        self._piece_of, bases, features = columns[np.argsort(columns[:, 2], kind="stable")].T.copy()
        self._bases = bases[:, None]
        features = features[: len(features) - len(self._pieces)]
        self._present, self._bounds = np.unique(features, return_index=True)
        self._spans = list(pairwise([*self._bounds.tolist(), len(features)]))
        self._ones = np.ones(len(features))
        one = np.eye(leaves.values.shape[1])
        each = [leaves.values[piece.leaves[0]] if piece.output is None else one[piece.output] for piece in self._pieces]
        self._values = np.array(each).reshape(-1, len(one))

    def attribute(self, rows: Matrix, target: Target, width: int) -> Attributed:
        """Return the Shapley values of rows (n, d) over so many features, and what is explained of each."""
        size = max(1, min(_ROWS_AT_ONCE, _CHUNK_CELLS // len(self._leaves.feature)))
        if len(rows) <= size:
            return self._part(rows, target, width)
        parts = [self._part(part, target, width) for part in np.array_split(rows, math.ceil(len(rows) / size))]
        return Attributed(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.prediction for part in parts]),
            np.concatenate([part.chosen for part in parts]),
            tuple(chain.from_iterable(part.targets for part in parts)),
        )

    def _part(self, rows: Matrix, target: Target, width: int) -> Attributed:
        cells = self._leaves.cells(rows)
        places = self._steps.places(cells).take(self._piece_of, axis=0)
        places += self._bases
        shares = self._table.take(places, mode="clip")  # none lies outside, and looking whether one does takes time
        shared = len(shares) - len(self._pieces)
        outputs = self._leaves.base + (self._values.T @ shares[shared:]).T
        deep = [self._leaves.meets(cells, conditions) for _, conditions in self._deep]
        for (leaf, _), met in zip(self._deep, deep, strict=True):
            outputs += (self._leaves.values[leaf].T @ met.all(axis=1)).T
        chosen, targets = chosen_outputs(outputs, target)
        values = np.zeros((width, len(rows)))
        if shared:
            if not self._single:
                shares[:shared] *= self._values[self._piece_of[:shared, None], chosen]
            values[self._present] = self._by_feature(shares[:shared])
        for (leaf, conditions), met in zip(self._deep, deep, strict=True):
            each = self._game.shares(conditions, met.transpose(2, 0, 1)).transpose(1, 2, 0)
            np.add.at(values, self._leaves.feature[conditions], each * self._leaves.values[leaf][:, None, chosen])
        return Attributed(values.T, outputs[np.arange(len(rows)), chosen], chosen, targets)

    def _by_feature(self, shares: Matrix) -> Matrix:
        """Return the sums of the shares (columns, r) by feature."""
        if shares.shape[1] < _MANY_ROWS:
            return np.asarray(np.add.reduceat(shares, self._bounds, axis=0))
        return np.stack([self._ones[: stop - start] @ shares[start:stop] for start, stop in self._spans])

    def _filled(self, shallow: Sequence[Group]) -> list[Matrix]:
        """Return the table (patterns, width) of each piece."""
        tables = [np.zeros((piece.patterns, piece.width)) for piece in self._pieces]
        piece_of = {leaf: place for place, piece in enumerate(self._pieces) for leaf in piece.leaves}
        for group in shallow:
            for part, conditions in _parts(group, 1 << group.length):
                patterns = np.broadcast_to(_all_patterns(group.length)[:, None], (1 << group.length, *conditions.shape))
                shares = self._game.shares(conditions, patterns)
                for place, leaf in enumerate(range(part.start, part.stop)):
                    self._add(leaf, shares[:, place], self._pieces[piece_of[leaf]], tables[piece_of[leaf]])
        return tables

    def _add(self, leaf: int, shares: Matrix, piece: Piece, table: Matrix) -> None:
        """Add the shares (2^L, L) of a leaf to the table of its piece."""
        value = 1.0 if piece.output is None else self._leaves.values[leaf, piece.output]
        conditions = self._leaves.conditions(leaf)
        met = piece.met(conditions)
        columns = [place for place, feature in enumerate(piece.edges) if feature in conditions]
        order = [list(conditions).index(feature) for feature in piece.edges if feature in conditions]
        table[:, columns] += value * shares[met][:, order]
        table[:, -1] += value * (met == len(shares) - 1)


_REACHED = np.iinfo(np.int64).max
"""Stands for a feature where a column says what is reached."""


class _Steps:
    """What the patterns of rows are the sums of, one piece's steps behind the other's, those of fewest first."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        each = [[(feature, bound, step * piece.width) for feature, bound, step in piece.steps()] for piece in pieces]
        feature, bounds, steps = np.array([step for own in each for step in own]).reshape(-1, 3).T.copy()
        self._feature, self._bounds, self._steps = feature.astype(np.int64), bounds[:, None], steps[:, None]
        counts = [len(own) for own in each]
        self._starts = np.cumsum([0, *counts])[:-1]
        self._groups = [(count, len(list(same))) for count, same in groupby(counts)]

    def places(self, cells: Matrix) -> NDArray[np.int64]:
        """Return where in the tables of the pieces the patterns of rows (d, r) stand, (pieces, r)."""
        passed = cells.take(self._feature, axis=0) > self._bounds
        if cells.shape[1] < _MANY_ROWS:
            sums = np.add.reduceat(passed * self._steps, self._starts, axis=0)
        else:
            sums = self._products(passed.astype(np.float64))
        return sums.astype(np.int64)

    def _products(self, passed: Matrix) -> Matrix:
        """Return the sums as products of the steps and which bounds are passed (steps, r)."""
        sums = np.empty((len(self._starts), 1, passed.shape[1]))
        step = piece = 0
        for count, pieces in self._groups:
            own, alike = slice(step, step + count * pieces), slice(piece, piece + pieces)
            np.matmul(
                self._steps[own].reshape(pieces, 1, count), passed[own].reshape(pieces, count, -1), out=sums[alike]
            )
            step, piece = own.stop, alike.stop
        return sums[:, 0]


def _shallow(leaves: Leaves) -> list[Group]:
    """Return the groups of leaves that tables are made of."""
    cells = accumulate(
        (group.leaves.stop - group.leaves.start) * (group.length << group.length) for group in leaves.groups
    )
    return [
        group
        for group, so_far in zip(leaves.groups, cells, strict=True)
        if group.length <= _TABLE_FEATURES and so_far <= _TABLE_CELLS
    ]


def _all_patterns(count: int) -> NDArray[np.bool_]:
    return (np.arange(1 << count)[:, None] >> np.arange(count) & 1).astype(bool)


def _parts(group: Group, patterns: int) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    """Yield leaves with their conditions (g, count), so few at once that shares by so many patterns fit the memory."""
    conditions = np.arange(group.conditions.start, group.conditions.stop).reshape(-1, group.length)
    size = max(1, _CHUNK_CELLS // patterns >> 7)
    for start in range(0, len(conditions), size):
        part = conditions[start : start + size]
        yield slice(group.leaves.start + start, group.leaves.start + start + len(part)), part
