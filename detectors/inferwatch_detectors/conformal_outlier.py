"""Outliers by any score of single rows, flagged as often as a false-alarm rate says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from inferwatch.errors import InvalidRows
from inferwatch.finding import Finding
from inferwatch.reference import Reference
from inferwatch.rows import Batch, Matrix, Schema
from inferwatch_detectors.conformal import Conformal, split
from inferwatch_detectors.ecod import TailScore
from inferwatch_detectors.ensemble import MeanSurprise
from inferwatch_detectors.hbos import HistogramScore
from inferwatch_detectors.isolation_forest import IsolationScore
from inferwatch_detectors.mahalanobis import RowDistance
from inferwatch_detectors.nearest_neighbours import NeighbourDistance

OutlierMethod = Literal["ensemble", "mahalanobis", "hbos", "isolation_forest", "knn", "ecod"]


class RowScore(Protocol):
    """Scores rows one by one; high is unusual. What it is fitted on goes into its constructor."""

    def score(self, rows: Matrix) -> Matrix:
        """Return the score (n,) of each row (n, d), finite and independent of the rows beside it."""
        ...


class ConformalOutlier:
    """Flags rows whose score is rarer than the false-alarm rate.

    | method | score | source |
    |---|---|---|
    | `ensemble` | mean surprise of `mahalanobis` and `hbos` | `ensemble` |
    | `mahalanobis` | squared distance, Ledoit-Wolf covariance | `mahalanobis` |
    | `hbos` | rarity of each value's histogram bin | `hbos` |
    | `isolation_forest` | scikit-learn's isolation forest | `isolation_forest` |
    | `knn` | distance to the 5th nearest of the fitted rows | `nearest_neighbours` |
    | `ecod` | tail probabilities, feature by feature | `ecod` |

    The score is fitted on one part of the reference's row sample and calibrated on another, which `seed` draws, so that
    p-values are conformal: over references, a row like theirs is flagged with the stated probability. `score` is -log10
    of the p-value, which ends at log10(n + 1) for n calibration rows; `statistic` is the score itself and goes on.
    `why` names the features that are farthest from the reference, whatever the method. One finding a flagged row, or
    with `report_all` a row.

    Raises `UnkeepablePromise` for a rate that the reference is too small to carry.

    >>> from inferwatch.rows import Column, Rows
    >>> random = np.random.default_rng(7)
    >>> people = Rows((Column("age", random.normal(40, 10, 5000)), Column("hours", random.normal(38, 8, 5000))), 5000)
    >>> detector = ConformalOutlier(Reference.build(people, created_ns=0))
    >>> [finding] = detector.observe(Batch.of(np.array([[41.0, 40.0], [350.0, 40.0]])))
    >>> finding.payload_id, finding.why
    ('row-1', "age is 32 sd above the reference's mean")
    """

    def __init__(
        self,
        reference: Reference,
        *,
        method: OutlierMethod = "ensemble",
        false_alarm_rate: float = 0.001,
        report_all: bool = False,
        seed: int = 0,
    ) -> None:
        rows, schema = reference.rows, reference.schema
        self._method = method
        self._width = len(schema.features)
        self._report_all = report_all
        fitted, calibrating = split(len(rows), self._width, false_alarm_rate, seed)
        self.distance = RowDistance(rows[fitted], schema)
        self.scorer = SCORERS[method](rows[fitted], schema, self.distance)
        self.conformal = Conformal(np.sort(self.scorer.score(rows[calibrating])), false_alarm_rate)

    def observe(self, batch: Batch, /) -> list[Finding]:
        """Return a finding for each row that is flagged, or for every row, in the order of the rows.

        Raises `InvalidRows` for another width than the reference's.
        """
        if batch.values.ndim != 2 or batch.values.shape[1] != self._width:
            raise InvalidRows(f"rows have shape {batch.values.shape}, the reference has {self._width} columns")
        statistics = self._statistics(batch.values)
        p_values = self.conformal.p_values(statistics)
        scores = -np.log10(p_values)
        reported = np.arange(len(batch)) if self._report_all else np.flatnonzero(scores > self.conformal.threshold)
        return [
            Finding(
                kind="outlier",
                method=self._method,
                score=float(scores[row]),
                threshold=self.conformal.threshold,
                time_ns=int(batch.times_ns[row]),
                p_value=float(p_values[row]),
                statistic=float(statistics[row]),
                payload_id=str(batch.payload_ids[row]),
                key=str(batch.keys[row]),
                row=int(batch.index[row]),
                assumption=self._assumption,
                why=self.distance.describe(batch.values[row]),
            )
            for row in reported
        ]

    def _statistics(self, rows: Matrix) -> Matrix:
        """The scores (n,), to the bit whatever rows lie beside a row: a lone one is summed otherwise."""
        return self.scorer.score(rows if len(rows) > 1 else np.repeat(rows, 2, axis=0))[: len(rows)]

    @cached_property
    def _assumption(self) -> str:
        low, high = self.conformal.achieved
        count = len(self.conformal.calibration)
        return (
            f"rows like the reference's: calibrated on {count:,} held-out rows, "
            f"the rate achieved lies in [{low:.2g}, {high:.2g}] (95 %)"
        )


class MahalanobisOutlier(ConformalOutlier):
    """Flags rows by their Mahalanobis distance: `ConformalOutlier` with that method. Cost: O(d^2) a row."""

    def __init__(
        self, reference: Reference, *, false_alarm_rate: float = 0.001, report_all: bool = False, seed: int = 0
    ) -> None:
        super().__init__(
            reference, method="mahalanobis", false_alarm_rate=false_alarm_rate, report_all=report_all, seed=seed
        )


def _ensemble(rows: Matrix, schema: Schema, distance: RowDistance) -> RowScore:
    return MeanSurprise(rows, [distance.score, HistogramScore(rows, schema).score])


SCORERS: Mapping[str, Callable[[Matrix, Schema, RowDistance], RowScore]] = {
    "ensemble": _ensemble,
    "mahalanobis": lambda _, __, distance: distance,
    "hbos": lambda rows, schema, _: HistogramScore(rows, schema),
    "isolation_forest": lambda rows, schema, _: IsolationScore(rows, schema),
    "knn": lambda rows, schema, _: NeighbourDistance(rows, schema),
    "ecod": lambda rows, schema, _: TailScore(rows, schema),
}
"""What a method fits: from rows (n, d), their schema, and the distance that is fitted in any case."""
