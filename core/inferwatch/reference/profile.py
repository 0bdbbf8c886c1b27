"""Profiles: how often a reference falls into each cell of each feature, with the moments that effects are stated in.

A numeric feature has up to 32 quantile bins between its least and its greatest value, one cell below, one above, and
one for missing values. Ties never split: a value lies in one bin, so integers, constants and zero-inflated columns have
fewer bins. A categorical feature has one cell a category, one for categories that the reference does not list, and one
for missing values. Windows are counted in the cells of their reference, so profiles over one reference add up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from inferwatch.rows import Feature, Matrix

BINS = 32
"""Quantile bins of a numeric feature; a reference with few values has fewer, of five values each."""

LARGEST = 1e150
"""A number of this size or above, infinity included, is nothing a reference can learn from: it counts as missing."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class NumericProfile:
    """Cells and moments of a numeric feature. Values beyond `LARGEST` count as missing.

    `offsets` (e,) float32 are the bin edges as (edge - mean) / scale; `counts` (e + 2,) belong to the cells: below the
    first edge, up to and including each next one, above the last, missing. `sd` has ddof 0. Moments are NaN where no
    value is present.
    """

    offsets: NDArray[np.float32]
    counts: Counts
    mean: float
    sd: float
    low: float
    high: float

    @classmethod
    def of(cls, column: Matrix) -> NumericProfile:
        """Return the profile of a column (n,)."""
        values = np.sort(column[np.abs(column) < LARGEST])
        missing = len(column) - len(values)
        if not len(values):
            nan = math.nan
            return cls(np.empty(0, np.float32), np.array([0, missing], np.int64), nan, nan, nan, nan)
        low, high = float(values[0]), float(values[-1])
        mean = min(max(float(values.mean()), low), high)
        sd = float(values.std()) if high > low else 0.0
        empty = cls(_edges(values, mean, _scale(mean, sd)), np.empty(0, np.int64), mean, sd, low, high)
        counts = empty.counted(values)
        counts[-1] = missing
        return replace(empty, counts=counts)

    @property
    def edges(self) -> Matrix:
        """The bin edges (e,), ascending; a value equal to an edge lies below it."""
        return self._limits[:-2]

    @cached_property
    def _limits(self) -> Matrix:
        """The upper limits (e + 2,) of the cells in the order of sorted values: the edges, infinity, NaN."""
        edges = self.mean + _scale(self.mean, self.sd) * self.offsets.astype(np.float64)
        return np.concatenate([edges, [np.inf, np.nan]])

    @cached_property
    def observed(self) -> int:
        """How many values are present."""
        return int(self.counts[:-1].sum())

    def counted(self, ascending: Matrix) -> Counts:
        """Return how many values (n,) lie in each cell (k,): values in ascending order, NaN last.

        Looking the edges up among the values takes a third of the time of looking each value up among the edges.
        """
        counts = ascending.searchsorted(self._limits, side="right")
        counts[1:] -= counts[:-1]
        return counts

    def cells(self, column: Matrix) -> NDArray[np.intp]:
        """Return the cell (n,) of each value; an infinite value lies in an outermost cell."""
        cells = np.searchsorted(self.edges, column, side="left")
        return np.where(np.isnan(column), len(self.offsets) + 1, cells)


@dataclass(frozen=True, eq=False)
class CategoricalProfile:
    """Cells of a categorical feature: `counts` (k + 2,) of its k categories, unlisted ones, and missing values."""

    counts: Counts

    @classmethod
    def of(cls, column: Matrix, categories: int) -> CategoricalProfile:
        """Return the profile of a column (n,) of category codes."""
        return cls(cls(np.zeros(categories + 2, np.int64)).counted(column))

    @property
    def observed(self) -> int:
        """How many values are present."""
        return int(self.counts[:-1].sum())

    def counted(self, column: Matrix) -> Counts:
        """Return how many codes (n,), in any order, lie in each cell (k,)."""
        return np.bincount(self.cells(column), minlength=len(self.counts)).astype(np.int64)

    def cells(self, column: Matrix) -> NDArray[np.intp]:
        """Return the cell (n,) of each code."""
        return np.where(np.isnan(column), len(self.counts) - 1, column).astype(np.intp)


FeatureProfile = NumericProfile | CategoricalProfile


@dataclass(frozen=True, eq=False)
class Profile:
    """The profiles of all features, in the order of the schema."""

    features: tuple[FeatureProfile, ...]

    @classmethod
    def of(cls, values: Matrix, features: tuple[Feature, ...]) -> Profile:
        """Return the profile of rows (n, d) as the schema of `features` encodes them."""
        return cls(tuple(_profile(values[:, index], feature) for index, feature in enumerate(features)))


def _profile(column: Matrix, feature: Feature) -> FeatureProfile:
    if feature.kind == "numeric":
        return NumericProfile.of(column)
    return CategoricalProfile.of(column, len(feature.categories))


def _scale(mean: float, sd: float) -> float:
    return sd if sd > 0 else max(abs(mean), 1.0) * 1e-6


def _edges(values: Matrix, mean: float, scale: float) -> NDArray[np.float32]:
    """Edges halfway between neighbouring values, at the boundaries nearest to equal shares, and around all values."""
    bins = min(BINS, max(1, len(values) // 5))
    boundaries = np.flatnonzero(np.diff(values)) + 1
    inner = np.empty(0)
    if len(boundaries):
        targets = np.arange(1, bins) * len(values) / bins
        after = np.searchsorted(boundaries, targets).clip(0, len(boundaries) - 1)
        before = np.maximum(after - 1, 0)
        nearer = np.where(targets - boundaries[before] <= boundaries[after] - targets, before, after)
        ranks = boundaries[np.unique(nearer)]
        inner = values[ranks - 1] / 2 + values[ranks] / 2
    below = _offset(values[0], mean, scale, -1)
    above = _offset(values[-1], mean, scale, 1)
    offsets = ((inner - mean) / scale).astype(np.float32)
    offsets = offsets[(offsets > below) & (offsets < above)]
    return np.unique(np.concatenate([[below], offsets, [above]]).astype(np.float32))


def _offset(value: float, mean: float, scale: float, side: int) -> np.float32:
    """The float32 offset of an edge just outside `value`: below it (side -1) or above it (side 1)."""
    nearest = (value - mean) / scale
    step = 1e-6 * max(1.0, abs(nearest))
    while True:
        offset = np.float32(nearest + side * step)
        if (mean + scale * float(offset) - value) * side > 0:
            return offset
        step *= 2
