"""What a window costs: the statistics of `TwoSampleDrift` beside SciPy's, feature by feature, one thread.

A reference of 10,000 rows and a window of 1,000, slightly shifted. Ours holds the reference prepared, as a detector
does; SciPy is given both samples, as there is no other way. Beside counting stands NumPy's `histogram`. Run with
`python -m benchmarks.drift`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import scipy
from scipy import stats

from inferwatch.reference.profile import Counts, NumericProfile
from inferwatch.rows import Matrix
from inferwatch_detectors.two_sample import (
    SortedSample,
    chi_square,
    cramer_von_mises,
    cvm_p_value,
    jensen_shannon,
    kolmogorov_smirnov,
    ks_log_p,
    population_stability,
    sorted_window,
    wasserstein,
)

REFERENCE, WINDOW, CATEGORIES, ROUNDS = 10_000, 1_000, 10, 5
Judge = Callable[[], object]


def judges(features: int) -> dict[str, tuple[Judge, Judge | None]]:
    """Return for every statistic what judges a window of so many features: ours, and SciPy's where it has one."""
    random = np.random.default_rng(0)
    reference, window = random.normal(size=(features, REFERENCE)), random.normal(0.05, 1, (features, WINDOW))
    samples = [SortedSample.of(column) for column in reference]
    codes, live = (random.integers(0, CATEGORIES, (features, count)) for count in (REFERENCE, WINDOW))
    known = np.array([np.bincount(column, minlength=CATEGORIES) for column in codes])
    rows = np.full(features, REFERENCE)
    profiles = [NumericProfile.of(column) for column in reference]

    def profiled() -> list[Counts]:
        return [
            np.bincount(profile.cells(column), minlength=len(profile.counts))
            for profile, column in zip(profiles, window, strict=True)
        ]

    def ks() -> Matrix:
        found = [
            kolmogorov_smirnov(sample, sorted_window(column)) for sample, column in zip(samples, window, strict=True)
        ]
        return ks_log_p(np.array(found), rows, np.full(features, float(WINDOW)))

    def cvm() -> list[float]:
        found = [
            cramer_von_mises(sample, sorted_window(column)) for sample, column in zip(samples, window, strict=True)
        ]
        return [cvm_p_value(statistic, REFERENCE, WINDOW) for statistic in found]

    def area() -> list[float | None]:
        return [wasserstein(sample, sorted_window(column)) for sample, column in zip(samples, window, strict=True)]

    def counted() -> Matrix:
        return np.array([np.bincount(column, minlength=CATEGORIES) for column in live], dtype=np.float64)

    return {
        "ks": (ks, lambda: [stats.ks_2samp(r, w, method="asymp") for r, w in zip(reference, window, strict=True)]),
        "cvm": (
            cvm,
            lambda: [
                stats.cramervonmises_2samp(r, w, method="asymptotic") for r, w in zip(reference, window, strict=True)
            ],
        ),
        "wasserstein": (
            area,
            lambda: [stats.wasserstein_distance(r, w) / r.std() for r, w in zip(reference, window, strict=True)],
        ),
        "chi_square": (
            lambda: [chi_square(r, np.bincount(w, minlength=CATEGORIES)) for r, w in zip(known, live, strict=True)],
            lambda: [
                stats.chi2_contingency(
                    [np.bincount(r, minlength=CATEGORIES), np.bincount(w, minlength=CATEGORIES)], correction=False
                )
                for r, w in zip(codes, live, strict=True)
            ],
        ),
        "counted in the reference's cells": (
            profiled,
            lambda: [np.histogram(w, p.edges) for p, w in zip(profiles, window, strict=True)],
        ),
        "psi, of counted bins": (lambda: population_stability(known.astype(np.float64), counted()), None),
        "jensen_shannon, of counted bins": (lambda: jensen_shannon(known.astype(np.float64), counted()), None),
    }


def _milliseconds(judge: Judge) -> float:
    judge()
    spent = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        judge()
        spent.append(time.process_time() - begun)
    return float(np.median(spent)) * 1e3


def main() -> None:
    """Print the table."""
    print(
        f"Reference {REFERENCE:,} rows, window {WINDOW:,}; CPU ms a window, median of {ROUNDS}; "
        f"SciPy {scipy.__version__}\n"
    )
    print("| statistic and p-value | features | ours | SciPy | ratio |\n|---|---|---|---|---|")
    for features in (10, 100, 1_000):
        for name, (ours, peer) in judges(features).items():
            own = _milliseconds(ours)
            beside = f"{(theirs := _milliseconds(peer)):.1f} | {theirs / own:.1f}" if peer else "- | -"
            print(f"| {name} | {features} | {own:.2f} | {beside} |", flush=True)


if __name__ == "__main__":
    main()
