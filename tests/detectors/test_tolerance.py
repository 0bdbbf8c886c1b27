from functools import partial

import numpy as np
import pytest
from scipy import optimize, stats

from inferwatch.reference.profile import CategoricalProfile, Counts, NumericProfile
from inferwatch.rows import Matrix
from inferwatch_detectors.cells import CellTest, CellTests
from inferwatch_detectors.tolerance import Ball, Shifts, Tolerance

RANDOM = np.random.default_rng(8)


def ball(test: CellTest, radius: float) -> Ball:
    return Ball(CellTests([test]), radius)


def least(tolerance: Tolerance, counts: Counts) -> float:
    return float(tolerance.least(counts[np.newaxis])[0])


def test_the_ball_takes_off_what_a_numerical_minimiser_does() -> None:
    test = CellTest(np.array([400.0, 300, 200, 80, 20]), ordered=False, least_share=0.02)
    counts = np.array([60, 90, 20, 20, 10])
    radius, shares = 0.04, test.shares

    def distance(moved: Matrix) -> float:
        return float(200 * (test.weights(200) * (counts / 200 - shares - moved[:5] + moved[5:]) ** 2).sum())

    def left(part: slice, moved: Matrix) -> float:
        return float(moved[part].sum()) - radius

    found = optimize.minimize(
        distance,
        np.full(10, radius / 5),
        bounds=[(0, 1)] * 10,
        constraints=[{"type": "eq", "fun": partial(left, part)} for part in (slice(5), slice(5, 10))],
        options={"maxiter": 500, "ftol": 1e-12},
    )

    assert least(ball(test, radius), counts) == pytest.approx(found.fun, rel=1e-4)


def test_a_window_inside_the_ball_is_no_deviation_at_all() -> None:
    test = CellTest.of(CategoricalProfile(np.array([500, 500, 0, 0])), 0.02)

    assert least(ball(test, 0.02), np.array([109, 91, 0, 0])) > 0
    assert least(ball(test, 0.05), np.array([109, 91, 0, 0])) == 0


def test_tolerating_nothing_is_exact() -> None:
    test = CellTest.of(CategoricalProfile(np.array([500, 300, 2, 0, 0])))
    counts = np.array([50, 45, 3, 1, 1])

    assert least(ball(test, 0.0), counts) == pytest.approx(float(test.statistic(counts)))


@pytest.mark.parametrize(
    "column",
    [
        RANDOM.normal(size=20_000),
        RANDOM.random(20_000),
        RANDOM.exponential(size=20_000),
        RANDOM.poisson(6, 20_000).astype(np.float64),
    ],
    ids=["normal", "uniform", "exponential", "poisson"],
)
def test_a_tolerated_shift_does_not_raise_the_statistic(column: Matrix) -> None:
    """Windows shifted by exactly the smallest effect give a statistic with no longer a tail than unshifted ones."""
    profile = NumericProfile.of(column)
    test = CellTest.of(profile)
    shifts = Shifts(CellTests([test]), [profile], [column[:5000]], 0.1)
    whole = bool((column == np.round(column)).all())
    plain: list[float] = []
    moved: list[float] = []
    for _ in range(300):
        window = RANDOM.choice(column, 500)
        step = (RANDOM.random(500) < 0.1 * profile.sd) if whole else 0.1 * profile.sd
        for values, found, tolerant in ((window, plain, False), (window + step, moved, True)):
            counts = np.bincount(profile.cells(values), minlength=len(profile.counts))
            found.append(least(shifts, counts) if tolerant else float(test.statistic(counts)))

    assert np.quantile(moved, 0.95) <= np.quantile(plain, 0.95)
    assert np.mean(moved) <= 1.1 * np.mean(plain)


def test_a_constant_has_no_shift_to_tolerate() -> None:
    profile = NumericProfile.of(np.full(100, 4.0))
    test = CellTest.of(profile)
    counts = np.bincount(profile.cells(np.array([4.0] * 15 + [5.0] * 5)), minlength=len(profile.counts))

    assert least(Shifts(CellTests([test]), [profile], [np.full(100, 4.0)], 0.1), counts) == pytest.approx(
        float(test.statistic(counts))
    )


def test_a_shift_of_three_times_the_tolerance_is_seen() -> None:
    column = RANDOM.normal(size=5000)
    profile = NumericProfile.of(column)
    test = CellTest.of(profile)
    counts = np.bincount(profile.cells(RANDOM.normal(0.3, 1, 2000)), minlength=len(profile.counts))
    found = least(Shifts(CellTests([test]), [profile], [column], 0.1), counts)

    assert stats.chi2.sf(found, 1) < 1e-6
    assert found < float(test.statistic(counts))
