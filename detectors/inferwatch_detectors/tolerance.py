"""The least statistic over all references that are shifted no further than the smallest effect that matters.

A reference is a sample, and no population stands still: "equal to the reference" is never true. So a window is
compared with every population within the smallest effect of the reference, and the nearest counts. Whichever of them is
the true one, the least statistic is at most the one against it, which behaves much as the statistic does where nothing
changed; so the same null distribution serves. A smallest effect of 0 leaves the reference alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inferwatch.reference.profile import Counts, NumericProfile
from inferwatch.rows import Matrix
from inferwatch_detectors.cells import CellTest, CellTests, beside, centre, reached, weights

_STEPS = 10
TOTAL_VARIATION_PER_SD = 0.2
"""A smallest effect of 0.1 sd of a number corresponds to 0.02 in total variation of a category."""


class Shifts:
    """Shifts of numbers' distributions by up to `reach` reference standard deviations, in 21 steps.

    `samples` (m,) are each feature's reference values, from which the shifted shares are read; tied values are spread
    halfway to their neighbours, so that a tenth of a step of an integer moves a tenth of its rows. Each shifted
    reference has the weights of its own shares, since mass may lie there where the reference has none.
    """

    def __init__(
        self, tests: CellTests, profiles: Sequence[NumericProfile], samples: Sequence[Matrix], reach: float
    ) -> None:
        self._tests = tests
        self._shares = [
            _shifted(test, profile, sample, reach)
            for test, profile, sample in zip(tests.each, profiles, samples, strict=True)
        ]
        self._centres = beside([centre(shares, tests.ordered) for shares in self._shares])
        self._weights: dict[int, Matrix] = {}

    def least(self, counts: Counts) -> Matrix:
        """Return the least statistic (d,) over the shifts, of windows with these counts (d, k)."""
        rows = int(counts[0].sum())
        known = self._weights.get(rows)
        if known is None:
            self._weights.clear()  # windows of one size follow each other
            known = beside([weights(shares, rows, self._tests.ordered, 0.0) for shares in self._shares])
            self._weights[rows] = known
        squared = (reached(counts, self._tests.ordered)[:, np.newaxis] - self._centres) ** 2
        return np.asarray(np.vecdot(known, squared).min(axis=1) * rows)


class Ball:
    """Distributions of categories within a total variation distance of `radius` of the reference."""

    def __init__(self, tests: CellTests, radius: float) -> None:
        self._tests = tests
        self._radius = radius

    def least(self, counts: Counts) -> Matrix:
        """Return the least statistic (d,) over the ball, of windows with these counts (d, k).

        What the categories gained and what they lost are reduced by `radius` each, most where it costs most: the
        weighted deviations are cut at the level that leaves the right sum (projection in a weighted norm).
        """
        rows = int(counts[0].sum())
        deviations, known = self._tests.deviations(counts), self._tests.weights(rows)
        parts = (np.maximum(deviations, 0), np.maximum(-deviations, 0))
        return np.asarray(rows * sum(np.vecdot(known, _cut(part, known, self._radius) ** 2) for part in parts))


Tolerance = Shifts | Ball
"""What of a deviation remains once the tolerated part is taken off."""


def _shifted(test: CellTest, profile: NumericProfile, sample: Matrix, reach: float) -> Matrix:
    """The shares (s, k) of a feature's cells under each shift; those of the reference where it does not vary."""
    steps = shift_steps(reach) * profile.sd if profile.sd > 0 else np.zeros(2 * _STEPS + 1)
    shares = shifted_shares(test.shares[:-1], sample, profile.edges, steps, 0.5 / test.total)
    alpha = np.column_stack([shares, np.full(len(steps), test.shares[-1])]) * test.total
    alpha[_STEPS] = test.alpha
    return np.asarray(alpha / alpha.sum(axis=1, keepdims=True))


@dataclass(frozen=True, eq=False)
class SpreadSample:
    """A sample's distribution with ties spread evenly halfway to their neighbours, so that any shift moves some rows.

    `shares` (k,) of the values lie below `knots` (k,), linear in between; both empty for fewer than two values.
    """

    knots: Matrix
    shares: Matrix

    @classmethod
    def of(cls, sample: Matrix) -> SpreadSample:
        """Return the distribution of the values (n,) that are not NaN."""
        values, counts = np.unique(sample[~np.isnan(sample)], return_counts=True)
        if len(values) < 2:
            return cls(np.empty(0), np.empty(0))
        middles = (values[:-1] + values[1:]) / 2
        ends = np.array([2 * values[0] - middles[0], 2 * values[-1] - middles[-1]])
        return cls(np.concatenate([ends[:1], middles, ends[1:]]), np.append(0, np.cumsum(counts)) / counts.sum())

    def below(self, points: Matrix) -> Matrix:
        """Return the share of values below each point, of any shape; 0 where the sample does not vary."""
        if not len(self.knots):
            return np.zeros_like(points)
        return np.asarray(np.interp(points, self.knots, self.shares))


def shift_steps(reach: float) -> Matrix:
    """Return 21 shifts (s,) from -reach to reach; the middle one is 0."""
    return np.linspace(-reach, reach, 2 * _STEPS + 1)


def shifted_shares(shares: Matrix, sample: Matrix, edges: Matrix, steps: Matrix, least: float) -> Matrix:
    """Return the shares (s, k) of the cells between `edges` (k - 1,) with all values moved by each of `steps` (s,).

    `shares` (k,) are those without a shift and give the sum; no share is below `least` or the least of them. `sample`
    are values from which to read how many a step carries over an edge.
    """
    total = shares.sum()
    spread = SpreadSample.of(sample)
    moved = spread.below(edges - steps[:, np.newaxis]) - spread.below(edges)
    below = np.maximum.accumulate(np.clip(np.cumsum(shares)[:-1] + total * moved, 0, total), axis=1)
    result = np.maximum(np.diff(below, axis=1, prepend=0.0, append=total), min(float(shares.min()), least))
    return np.asarray(result * total / result.sum(axis=1, keepdims=True))


def _cut(part: Matrix, weights: Matrix, amount: float) -> Matrix:
    """What remains of `part` (d, k) once `amount` is taken off each row so that sum(weights x^2) is least.

    That is min(part, level / weights). Where nothing is left to cut, weights may be 0.
    """
    inverse = np.divide(1, weights, out=np.zeros_like(weights), where=weights > 0)
    order = np.argsort(-part * weights, axis=1)
    sorted_part, sorted_inverse = np.take_along_axis(part, order, 1), np.take_along_axis(inverse, order, 1)
    # with the first m entries cut at a level, sum(part[:m]) - level * sum(1/w[:m]) is what they lose
    levels = (np.cumsum(sorted_part, axis=1) - amount) / np.cumsum(sorted_inverse, axis=1)
    following = np.take_along_axis(part * weights, order, 1)[:, 1:]
    enough = np.column_stack([levels[:, :-1] >= following, np.full(len(part), fill_value=True)])
    level = np.take_along_axis(levels, enough.argmax(axis=1)[:, np.newaxis], 1)
    return np.asarray(np.minimum(part, np.maximum(level, 0) * inverse))
