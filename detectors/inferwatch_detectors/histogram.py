"""Drift of a window's rows against the reference's cells, with false alarms as often as promised."""

from __future__ import annotations

from inferwatch.finding import Finding
from inferwatch.promise import Promise
from inferwatch.reference import Reference
from inferwatch.rows import Batch
from inferwatch_detectors.cell_columns import CellColumns
from inferwatch_detectors.dependence import Dependence
from inferwatch_detectors.null_distribution import CELL_DRAWS
from inferwatch_detectors.verdict import DriftRule


class HistogramDrift:
    """Compares windows with a reference, feature by feature, and fires as often as the promise allows.

    Numbers are judged by Anderson-Darling on the reference's quantile bins, categories by chi-square, with missing
    values, values outside the reference's range and unlisted categories in cells of their own (`cells`). P-values
    come from the Dirichlet-multinomial null (`null_distribution`), joined over features by Sidak's 1 - (1 - p)^d. Where
    `smallest_effect` is above 0, the null is "no shift beyond it", in reference standard deviations for numbers and a
    fifth of it in total variation for categories (`tolerance`). `dependence` reduces the window's rows to effective
    ones.

    A finding's and a feature's `score` is -log10 of the p-value after both corrections, at most 300; the threshold is
    -log10 of the alarm probability that the promise grants the window. A feature's `statistic` and `p_value` are plain:
    against the reference itself, for this feature alone. Preparing costs up to a second, once for a window size, in
    proportion to `cell_draws`; a window costs about a tenth of a microsecond a value.

    >>> import numpy as np
    >>> from inferwatch.rows import Column, Rows
    >>> random = np.random.default_rng(7)
    >>> ages = Rows((Column("age", random.normal(40, 10, 5000)),), 5000)
    >>> reference = Reference.build(ages, created_ns=0)
    >>> detector = HistogramDrift(reference, window_rows=500, promise=Promise(1000))
    >>> [finding] = detector.observe(Batch.of(random.normal(34, 10, (500, 1))))
    >>> finding.fired, finding.why
    (True, 'age fell by 0.59 sd; 1 of 1 features changed: age')
    """

    def __init__(
        self,
        reference: Reference,
        *,
        window_rows: int,
        promise: Promise,
        smallest_effect: float = 0.1,
        dependence: Dependence | None = None,
        cell_draws: int = CELL_DRAWS,
    ) -> None:
        self._rule = DriftRule.of("histogram", reference, window_rows, promise, smallest_effect, dependence)
        places = range(len(reference.schema.features))
        effective = self._rule.dependence.of("all")
        self._columns = CellColumns(reference, places, smallest_effect, effective, window_rows, cell_draws=cell_draws)

    def observe(self, batch: Batch, /) -> list[Finding]:
        """Return one finding about the whole batch, taken as one window of any number of rows.

        Raises `InvalidRows` for another width than the reference's, or no rows.
        """
        self._rule.require_width(batch)
        return [self._rule.finding(batch, self._columns.judge(batch.values))]
