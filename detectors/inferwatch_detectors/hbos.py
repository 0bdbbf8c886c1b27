"""Histogram-based outlier score: features taken apart, each value by how rare its neighbourhood is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inferwatch.rows import Matrix, Schema
from inferwatch_detectors.surprisal import surprisal, surprisals_of

_BINS = 10
_FARTHEST = 1e100


class HistogramScore:
    """-2 log of the product of the densities of a row's values (M. Goldstein and A. Dengel, KI 2012).

    Numbers have 10 bins of equal width between the least and the greatest fitted value, their density relative to the
    fullest bin. An empty bin counts as half a row; outside, the density falls from there with the squared distance in
    bins. Missing values have a share of their own.
    """

    def __init__(self, rows: Matrix, schema: Schema) -> None:
        self._surprisals: dict[int, Matrix] = {}
        binned: dict[int, tuple[float, float, Matrix]] = {}
        for index, feature in enumerate(schema.features):
            if feature.kind == "categorical":
                self._surprisals[index] = surprisal(rows[:, index], feature)
            else:
                binned[index] = _binned(rows[:, index])
        self._numeric = list(binned)
        self._low = np.array([low for low, _, _ in binned.values()])
        self._width = np.array([width for _, width, _ in binned.values()])
        self._rarity = np.array([rarity for _, _, rarity in binned.values()]).ravel()
        self._first = np.arange(len(binned)) * (_BINS + 2)

    def score(self, rows: Matrix) -> Matrix:
        """Return the score (n,) of each row, at least 0."""
        total = np.zeros(len(rows))
        if self._numeric:
            total += np.einsum("ij->i", self._of_numbers(rows.take(self._numeric, axis=1)))
        for index, known in self._surprisals.items():
            total += surprisals_of(rows[:, index], known)
        return total

    def _of_numbers(self, numbers: Matrix) -> Matrix:
        with np.errstate(over="ignore", invalid="ignore"):
            place = (numbers - self._low) / self._width
        elsewhere = np.flatnonzero(~((place >= 0) & (place < _BINS)))
        away = place.take(elsewhere)
        place.put(elsewhere, 0)
        rarity: Matrix = self._rarity.take(place.astype(np.intp) + self._first)
        if len(elsewhere):
            columns = elsewhere % numbers.shape[1]
            rarity.put(elsewhere, self._elsewhere(numbers.take(elsewhere), away, columns))
        return rarity

    def _elsewhere(self, numbers: Matrix, place: Matrix, columns: NDArray[np.intp]) -> Matrix:
        """The rarity (m,) of numbers that lie in no bin, at so many bins' widths from the first one's beginning."""
        place = np.floor(place)
        # the greatest value itself lies on the upper edge of the last bin
        place = np.where(numbers == (self._low + _BINS * self._width)[columns], _BINS - 1, place)
        outside = np.nan_to_num(np.clip(np.maximum(-place, place - _BINS + 1), 0, _FARTHEST))
        cell = np.where(np.isnan(place), _BINS + 1, np.where(outside > 0, _BINS, place))
        return np.asarray(self._rarity[cell.astype(np.intp) + self._first[columns]] + 4 * np.log1p(outside))


def _binned(column: Matrix) -> tuple[float, float, Matrix]:
    """Where the bins begin, how wide they are, and the rarity (12,) of each, of what lies outside, and of missing."""
    present = column[~np.isnan(column)]
    low = float(present.min()) if len(present) else 0.0
    width = (float(present.max()) - low) / _BINS if len(present) else 0.0
    if width == 0:
        width = max(abs(low), 1.0) * 1e-6
    cells = np.minimum(((present - low) / width).astype(np.intp), _BINS - 1)
    counts = np.bincount(cells, minlength=_BINS + 2).astype(np.float64)
    counts[-1] = len(column) - len(present)
    return low, width, np.asarray(-2 * np.log(np.maximum(counts, 0.5) / max(counts.max(), 0.5)))
