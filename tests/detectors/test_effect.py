import numpy as np
import pytest

from inferwatch.reference.profile import Counts, NumericProfile
from inferwatch.rows import Matrix
from inferwatch_detectors.effect import Effect, mean_shifts, total_variations

RANDOM = np.random.default_rng(4)


def mean_shift(column: Matrix, profile: NumericProfile, effective: float) -> Effect:
    [effect] = mean_shifts(column[np.newaxis], [profile], np.array([effective]))
    return effect


def total_variation(counts: Counts, shares: Matrix, rows: int, effective: float) -> Effect:
    [effect] = total_variations(counts[np.newaxis], shares[np.newaxis], np.array([rows]), np.array([effective]))
    return effect


def test_the_shift_is_in_reference_standard_deviations_of_ddof_0() -> None:
    profile = NumericProfile.of(np.array([1.0, 3.0, np.nan]))
    effect = mean_shift(np.array([4.0, 6.0, np.nan]), profile, 1.0)

    assert effect.value == 3.0
    assert effect.low is not None
    assert effect.high is not None
    assert effect.low < 3.0 < effect.high
    assert effect.high - 3.0 == pytest.approx(1.959963984540054)  # sqrt(1 / 2 + 1 / 2)


def test_where_nothing_varies_or_is_present_there_is_no_effect() -> None:
    profile = NumericProfile.of(np.array([1.0, 3.0]))

    assert mean_shift(np.array([5.0]), NumericProfile.of(np.full(9, 2.0)), 1.0) == Effect()
    assert mean_shift(np.array([np.nan, np.inf]), profile, 1.0) == Effect()


def test_95_of_100_intervals_of_the_shift_contain_it() -> None:
    """Over 600 references and windows with a true shift of 0.4: between 92 and 98 %, three standard errors."""
    hits = 0
    for _ in range(600):
        profile = NumericProfile.of(RANDOM.normal(size=400))
        effect = mean_shift(RANDOM.normal(0.4, 1, 200), profile, 1.0)
        hits += effect.low is not None and effect.high is not None and effect.low <= 0.4 <= effect.high

    assert 0.92 <= hits / 600 <= 0.98


def test_fewer_effective_rows_widen_the_interval() -> None:
    profile = NumericProfile.of(RANDOM.normal(size=100_000))
    values = RANDOM.normal(size=500)
    wide, narrow = mean_shift(values, profile, 0.25), mean_shift(values, profile, 1.0)

    assert wide.high is not None
    assert narrow.high is not None
    assert wide.value is not None
    assert wide.high - wide.value == pytest.approx(2 * (narrow.high - wide.value), rel=0.02)


def test_total_variation_is_half_the_summed_difference() -> None:
    effect = total_variation(np.array([60, 40, 0]), np.array([0.5, 0.25, 0.25]), 5000, 1.0)

    assert effect.value == pytest.approx(0.25)
    assert effect.low is not None
    assert effect.high is not None
    assert 0 <= effect.low < 0.25 < effect.high <= 1


@pytest.mark.parametrize("moved", [0.0, 0.2])
def test_the_interval_of_the_total_variation_contains_the_true_one(moved: float) -> None:
    """Over 400 windows of 500 rows with 20 categories: at least 92 %, and without a shift the lower end is near 0."""
    shares = RANDOM.dirichlet(np.full(20, 5.0))
    true = shares.copy()
    true[0] += moved * (1 - true[0])
    true[1:] *= 1 - moved
    distance = np.abs(true - shares).sum() / 2
    effects = [total_variation(RANDOM.multinomial(500, true), shares, 10**9, 1.0) for _ in range(400)]
    lows, highs = (np.array([getattr(effect, end) for effect in effects]) for end in ("low", "high"))

    assert ((lows <= distance + 1e-12) & (distance <= highs)).mean() >= 0.92
    assert np.median(lows) <= distance
    assert np.median(lows) >= distance - 0.1
