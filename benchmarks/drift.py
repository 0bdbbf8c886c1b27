"""What a window costs: the statistics of `TwoSampleDrift` beside SciPy's, feature by feature, one thread.

A reference of 10,000 rows and a window of 1,000, slightly shifted. Ours holds the reference prepared, as a detector
does; SciPy is given both samples of numbers, as there is no other way, and counts of categories. Beside counting stands
NumPy's `histogram`. Run with `python -m benchmarks.drift`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import jensenshannon

from inferwatch.reference.profile import NumericProfile
from inferwatch.rows import Matrix
from inferwatch_detectors.cells import beside
from inferwatch_detectors.two_sample import (
    SortedSample,
    chi_square,
    cramer_von_mises,
    cvm_p_value,
    jensen_shannon,
    kolmogorov_smirnov,
    ks_log_p,
    population_stability,
    sorted_windows,
    wasserstein,
)

REFERENCE, WINDOW, CATEGORIES = 10_000, 1_000, 10
ROUNDS, LEAST_S = 5, 0.02
COUNTED = "counted in the reference's cells"
MERGED = "such counts of two windows, added up"
Judge = Callable[[], object]
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Samples:
    """Two samples of d features, the reference's slightly below the window's, and what ours prepares of them."""

    reference: Matrix
    window: Matrix

    @classmethod
    def drawn(cls, features: int) -> Samples:
        """Return samples of numbers (d, n)."""
        random = np.random.default_rng(0)
        return cls(random.normal(size=(features, REFERENCE)), random.normal(0.05, 1, (features, WINDOW)))

    def ours(self) -> dict[str, Judge]:
        """Return what our statistics of numbers judge the window with."""
        samples = [SortedSample.of(column) for column in self.reference]
        profiles = [NumericProfile.of(column) for column in self.reference]
        rows = np.full(len(samples), REFERENCE)
        counts = beside([profile.counts for profile in profiles])

        def each(judge: Callable[[SortedSample, Matrix], Found]) -> list[Found]:
            return [judge(*pair) for pair in zip(samples, sorted_windows(self.window), strict=True)]

        return {
            "ks": lambda: ks_log_p(np.array(each(kolmogorov_smirnov)), rows, np.full(len(samples), float(WINDOW))),
            "cvm": lambda: [cvm_p_value(statistic, REFERENCE, WINDOW) for statistic in each(cramer_von_mises)],
            "wasserstein": lambda: each(wasserstein),
            COUNTED: lambda: [p.counted(w) for p, w in zip(profiles, sorted_windows(self.window), strict=True)],
            MERGED: lambda: counts + counts,
        }

    def theirs(self) -> dict[str, Judge]:
        """Return what SciPy's and NumPy's judge the window with."""
        edges = [NumericProfile.of(column).edges for column in self.reference]

        def each(judge: Callable[[Matrix, Matrix], object]) -> list[object]:
            return list(map(judge, self.reference, self.window))

        return {
            "ks": lambda: each(partial(stats.ks_2samp, method="asymp")),
            "cvm": lambda: each(partial(stats.cramervonmises_2samp, method="asymptotic")),
            "wasserstein": lambda: each(lambda r, w: stats.wasserstein_distance(r, w) / r.std()),
            COUNTED: lambda: list(map(np.histogram, self.window, edges)),
        }


@dataclass(frozen=True, slots=True)
class Codes:
    """Two samples of d categorical features."""

    reference: NDArray[np.int64]
    window: NDArray[np.int64]

    @classmethod
    def drawn(cls, features: int) -> Codes:
        """Return samples of category codes (d, n)."""
        random = np.random.default_rng(1)
        return cls(*(random.integers(0, CATEGORIES, (features, count)) for count in (REFERENCE, WINDOW)))

    def ours(self) -> dict[str, Judge]:
        """Return what our statistics of counts judge the window with, counting included."""
        known = _counted(self.reference)
        return {
            "chi_square": lambda: chi_square(known, _counted(self.window)),
            "psi": lambda: population_stability(known, _counted(self.window)),
            "jensen_shannon": lambda: jensen_shannon(known, _counted(self.window)),
        }

    def theirs(self) -> dict[str, Judge]:
        """Return what SciPy's judge the window with."""

        known = _counted(self.reference)
        return {
            "chi_square": lambda: [
                stats.chi2_contingency(table, correction=False)
                for table in np.stack([known, _counted(self.window)], axis=1)
            ],
            "jensen_shannon": lambda: jensenshannon(known, _counted(self.window), base=2, axis=1),
        }


def _counted(codes: NDArray[np.int64]) -> Matrix:
    return np.array([np.bincount(column, minlength=CATEGORIES) for column in codes], dtype=np.float64)


def _milliseconds(*judges: Judge) -> list[float]:
    """Return the CPU milliseconds of each, run in turns."""
    for judge in judges:
        judge()
    rounds = [[_spent(judge) for judge in judges] for _ in range(ROUNDS)]
    return [float(np.median(each)) * 1e3 for each in zip(*rounds, strict=True)]


def _spent(judge: Judge) -> float:
    """The CPU seconds of one of so many runs that take 0.02 s at least."""
    begun, runs = time.process_time(), 0
    while (spent := time.process_time() - begun) < LEAST_S:
        judge()
        runs += 1
    return spent / runs


def main() -> None:
    """Print the table."""
    print(
        f"Reference {REFERENCE:,} rows, window {WINDOW:,}; CPU ms a window, median of {ROUNDS}; "
        f"SciPy {scipy.__version__}\n"
    )
    print("| statistic and p-value | features | ours | SciPy | ratio |\n|---|---|---|---|---|")
    for features in (10, 100, 1_000):
        for samples in (Samples.drawn(features), Codes.drawn(features)):
            peers = samples.theirs()
            for name, ours in samples.ours().items():
                own, *theirs = _milliseconds(ours, *filter(None, [peers.get(name)]))
                ratio = f"{theirs[0]:.3g} | {theirs[0] / own:.1f}" if theirs else "- | -"
                print(f"| {name} | {features} | {own:.3g} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
