"""Drift by the two-sample statistics that people know, with the same promise about false alarms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from inferwatch.finding import Finding
from inferwatch.promise import Promise
from inferwatch.reference import Reference
from inferwatch.rows import Batch, Matrix
from inferwatch_detectors.cell_columns import CellColumns
from inferwatch_detectors.dependence import Dependence
from inferwatch_detectors.divergence import (
    Divergence,
    integrated_square,
    squared_jensen_shannon,
    squared_kolmogorov,
    squared_wasserstein,
    stability,
)
from inferwatch_detectors.effective_sample import EffectiveSample
from inferwatch_detectors.null_distribution import CELL_DRAWS
from inferwatch_detectors.two_sample import (
    SortedSample,
    cramer_von_mises,
    cvm_p_value,
    jensen_shannon,
    kolmogorov_smirnov,
    ks_log_p,
    population_stability,
    sorted_window,
    wasserstein,
)
from inferwatch_detectors.two_sample_column import (
    Cells,
    DivergenceColumn,
    KolmogorovColumns,
    Textbook,
    Watched,
    draws_for,
)
from inferwatch_detectors.verdict import DriftRule

TwoSampleMethod = Literal["ks", "cvm", "chi_square", "wasserstein", "psi", "jensen_shannon"]


class TwoSampleDrift:
    """Compares windows with a reference by a textbook statistic, feature by feature, and keeps the promise.

    | method | statistic | `statistic` and `p_value` are those of |
    |---|---|---|
    | `ks` | largest distance of the distributions | `scipy.stats.ks_2samp(method="asymp")` |
    | `cvm` | squared distance over all ranks | `scipy.stats.cramervonmises_2samp(method="asymptotic")` |
    | `chi_square` | counts, of numbers in the profile's quantile bins | `scipy.stats.chi2_contingency`, uncorrected |
    | `wasserstein` | area between the distributions / reference sd | `scipy.stats.wasserstein_distance`; p drawn |
    | `psi` | sum (p - q) ln(p / q) over reference deciles | p drawn |
    | `jensen_shannon` | distance, base 2, over the same bins | `scipy.spatial.distance.jensenshannon`; p drawn |

    The first two and `wasserstein` run on the reference's row sample without missing values, and judge categories by
    chi-square; the others give missing values a bin of their own. Scores are calibrated as those of `HistogramDrift`
    are: `ks` by its own p-value where most values are different, all others by drawing windows where nothing changed
    (`null_distribution`, `divergence`); so they hold for ties and for values beyond the reference, where textbook
    p-values do not. Where rows depend on each other, a statistic counts as the one of independent rows that is as rare
    (`components`).

    >>> import numpy as np
    >>> from inferwatch.rows import Column, Rows
    >>> random = np.random.default_rng(7)
    >>> ages = Rows((Column("age", random.normal(40, 10, 5000)),), 5000)
    >>> reference = Reference.build(ages, created_ns=0)
    >>> detector = TwoSampleDrift(reference, method="ks", window_rows=500, promise=Promise(1000))
    >>> [finding] = detector.observe(Batch.of(random.normal(34, 10, (500, 1))))
    >>> finding.fired, finding.why
    (True, 'age fell by 0.59 sd; 1 of 1 features changed: age')
    """

    def __init__(
        self,
        reference: Reference,
        *,
        method: TwoSampleMethod,
        window_rows: int,
        promise: Promise,
        smallest_effect: float = 0.1,
        dependence: Dependence | None = None,
        cell_draws: int = CELL_DRAWS,
    ) -> None:
        by_cells, rest = _divided(reference, method)
        by_sample = any(reference.schema.features[index].kind == "numeric" for index in rest)
        self._rule = DriftRule.of(
            method, reference, window_rows, promise, smallest_effect, dependence, by_sample=by_sample
        )
        effective = self._rule.dependence.of("leading" if method == "wasserstein" else "all")
        self._cells = CellColumns(
            reference, by_cells, smallest_effect, effective, window_rows, cell_draws=cell_draws, chi_square=True
        )
        self._ranked = [index for index in rest if method == "ks" and not _tied(reference.rows[:, index])]
        self._kolmogorov = KolmogorovColumns(
            [_watched(reference, effective[index], index) for index in self._ranked], smallest_effect
        )
        drawn = [index for index in rest if index not in self._ranked]
        watched = [_watched(reference, effective[index], index) for index in drawn]
        prepared = _prepared(watched, method, smallest_effect, window_rows, cell_draws)
        self._divergences = dict(zip(drawn, prepared, strict=True))

    def observe(self, batch: Batch, /) -> list[Finding]:
        """Return one finding about the whole batch, taken as one window of any number of rows.

        Raises `InvalidRows` for another width than the reference's, or no rows.
        """
        self._rule.require_width(batch)
        values = batch.values
        verdicts = self._cells.judge(values)
        verdicts += [column.judge(values[:, index]) for index, column in self._divergences.items()]
        if self._ranked:
            verdicts += self._kolmogorov.judge(values.T[self._ranked])
        return [self._rule.finding(batch, verdicts)]


def _prepared(
    watched: list[Watched], method: str, smallest_effect: float, window_rows: int, cell_draws: int
) -> list[DivergenceColumn]:
    if not watched:
        return []
    divergence, textbook, cells_of = _DIVERGENCES[method]
    cells = [cells_of(column) for column in watched]
    distinct = {entry.counts.tobytes(): len(entry.counts) for entry in cells}
    draws = draws_for(sum(distinct.values()), cell_draws)
    return [
        DivergenceColumn.of(
            column,
            entry,
            divergence,
            textbook,
            smallest_effect=smallest_effect,
            window_rows=window_rows,
            draws=draws,
        )
        for column, entry in zip(watched, cells, strict=True)
    ]


def _divided(reference: Reference, method: str) -> tuple[list[int], list[int]]:
    """The features that are judged by chi-square cells, and the others."""
    features = reference.schema.features
    by_cells = [
        index
        for index, feature in enumerate(features)
        if method == "chi_square" or (method in ("ks", "cvm", "wasserstein") and feature.kind == "categorical")
    ]
    return by_cells, [index for index in range(len(features)) if index not in by_cells]


def _tied(column: Matrix) -> bool:
    """Whether most values of a column (n,) are repeats: Kolmogorov's own p-value is then far too cautious."""
    present = column[~np.isnan(column)]
    return 2 * len(np.unique(present)) < len(present)


def _watched(reference: Reference, effective: EffectiveSample, index: int) -> Watched:
    return Watched(
        reference.schema.features[index],
        reference.profile.features[index],
        reference.rows[:, index],
        effective,
        effective if reference.ordered else EffectiveSample(),
    )


def _spaced(column: Watched) -> Cells:
    return Cells.spaced(column.sample, SortedSample.of(column.sample).sd)


def _ranked(column: Watched) -> Cells:
    return Cells.ranked(column.sample)


def _deciles(column: Watched) -> Cells:
    return Cells.deciles(column.sample) if column.feature.kind == "numeric" else Cells.categories(column.profile)


def _cvm(sample: SortedSample, values: Matrix, *_: Matrix) -> tuple[float, float]:
    window = sorted_window(values)
    statistic = cramer_von_mises(sample, window)
    return statistic, math.log(max(cvm_p_value(statistic, len(sample.values), len(window)), 1e-300))


def _ks(sample: SortedSample, values: Matrix, *_: Matrix) -> tuple[float, float]:
    window = sorted_window(values)
    statistic = kolmogorov_smirnov(sample, window)
    return statistic, float(ks_log_p(np.array([statistic]), np.array([len(sample.values)]), np.array([len(window)]))[0])


def _wasserstein(sample: SortedSample, values: Matrix, *_: Matrix) -> tuple[float | None, None]:
    return wasserstein(sample, sorted_window(values)), None


def _psi(_: SortedSample, __: Matrix, reference: Matrix, window: Matrix) -> tuple[float, None]:
    return float(population_stability(reference, window)), None


def _distance(_: SortedSample, __: Matrix, reference: Matrix, window: Matrix) -> tuple[float, None]:
    return float(jensen_shannon(reference, window)), None


_DIVERGENCES: Mapping[str, tuple[Divergence, Textbook, Callable[[Watched], Cells]]] = {
    "ks": (squared_kolmogorov, _ks, _ranked),
    "cvm": (integrated_square, _cvm, _ranked),
    "wasserstein": (squared_wasserstein, _wasserstein, _spaced),
    "psi": (stability, _psi, _deciles),
    "jensen_shannon": (squared_jensen_shannon, _distance, _deciles),
}
