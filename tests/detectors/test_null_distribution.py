import itertools
import math

import numpy as np
import pytest
from scipy import stats

from inferwatch_detectors.cells import CellTest
from inferwatch_detectors.null_distribution import NullDistribution, null_distributions
from inferwatch_detectors.quadratic_form import tail_curve

CONTINUOUS = [1.0, *[156.0] * 32, 1.0, 0.5]


@pytest.mark.parametrize("degrees", [1, 2, 7, 40])
def test_the_tail_of_equal_weights_is_chi_square(degrees: int) -> None:
    points, depth = tail_curve(np.full(degrees, 2.0), 600.0)
    far = (points > 2 * (degrees + 2 * math.sqrt(2 * degrees))) & (points < 600)
    expected = -stats.chi2.logsf(points[far] / 2, degrees)

    assert points[-1] >= 600
    assert np.abs(depth[far] - expected).max() < 0.15


def test_the_tail_of_unequal_weights_matches_draws() -> None:
    weights = np.array([1.0, 0.5, 0.25, 0.1])
    drawn = np.sort(np.random.default_rng(3).standard_normal((400_000, 4)) ** 2 @ weights)
    points, depth = tail_curve(weights, 100.0)

    for level in (0.02, 1e-3, 1e-4):
        assert math.exp(-np.interp(drawn[-int(level * 400_000)], points, depth)) == pytest.approx(level, rel=0.25)


def test_p_values_of_tiny_windows_are_those_of_full_enumeration() -> None:
    alpha = np.array([6.0, 3.0, 1.0, 0.5])
    test = CellTest(alpha, ordered=False)
    windows = [np.array(c) for c in itertools.product(range(5), repeat=4) if sum(c) == 4]
    mass = np.array([stats.dirichlet_multinomial.pmf(window, alpha, np.array(4)) for window in windows])
    values = np.array([float(test.statistic(window)) for window in windows])
    null = NullDistribution.of(test, 4, 100_000)

    for value in np.unique(values.round(9)):
        exact = mass[values >= value - 1e-9].sum()
        if exact > 1e-3:
            assert math.exp(null.log_survival(value - 1e-9)) == pytest.approx(exact, rel=0.15)


def test_the_survival_function_starts_at_one_and_never_rises() -> None:
    for alpha, ordered, rows in ((CONTINUOUS, True, 500), ([5000.0, 0.5, 0.5], False, 500), ([1.0, 0.5], True, 1)):
        null = NullDistribution.of(CellTest(np.array(alpha), ordered), rows, 4000)

        assert null.log_survival(0.0) == 0
        assert (np.diff(null.points) > 0).all()
        assert (np.diff(null.log_p) <= 0).all()


def test_equal_references_share_one_distribution() -> None:
    one, two, other = (CellTest(np.array(a), ordered=True) for a in (CONTINUOUS, CONTINUOUS, [5.0, 5.0]))
    first, second, third = null_distributions([one, two, other], 300, cell_draws=200_000)

    assert first is second
    assert first is not third
    assert null_distributions([two], 300, cell_draws=200_000)[0].points[0] == first.points[0]


def test_an_unseen_category_never_gets_less_than_its_own_probability() -> None:
    test = CellTest(np.array([5000.0, 0.5, 0.5]), ordered=False)
    null = NullDistribution.of(test, 500, 16_384)

    for unseen in (2, 5, 10):
        value = float(test.statistic(np.array([500 - unseen, unseen, 0])))
        exact = stats.betabinom.sf(unseen - 1, 500, 0.5, 5000.5)
        assert exact * 0.7 <= math.exp(null.log_survival(value)) <= exact * 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("alpha", "ordered", "least_share", "rows"),
    [
        (CONTINUOUS, True, 0.0, 500),
        (CONTINUOUS, True, 0.0, 20),
        ([1.0, *[6.0] * 32, 1.0, 0.5], True, 0.0, 500),
        ([1.0, 3000, 500, 300, 200, 100, 50, 20, 5, 1, 0.5], True, 0.0, 500),
        ([1.0, 5000, 1, 0.5], True, 0.0, 500),
        ([2500.0, 2500, 0.5, 0.5], False, 0.0, 500),
        ([4000.0, 900, 80, 10, 5, 3, 1, 1, 2, 0.5], False, 0.0, 500),
        ([4000.0, 900, 80, 10, 5, 3, 1, 1, 2, 0.5], False, 0.02, 500),
        ([*[200.0] * 25, 0.5, 0.5], False, 0.0, 500),
        ([*[200.0] * 25, 0.5, 0.5], False, 0.0, 20),
    ],
)
def test_the_fitted_tail_meets_a_larger_set_of_draws(
    alpha: list[float], ordered: bool, least_share: float, rows: int
) -> None:
    """Levels that 1,000,000 draws resolve, from a table of 16,384: within 15 % at .01, a factor 2 at 1e-4, 3 at 1e-5.

    The factor of 3 allows for the 10 draws that a million has beyond 1e-5.
    """
    test = CellTest(np.array(alpha), ordered, least_share)
    null = NullDistribution.of(test, rows, 16_384)
    random = np.random.default_rng(9)
    drawn = np.sort(np.concatenate([test.draw(rows, 20_000, random) for _ in range(50)]))

    for level, factor in ((0.01, 1.2), (1e-3, 1.5), (1e-4, 2.5), (1e-5, 3.5)):
        value = drawn[-round(level * len(drawn))]
        share = (drawn >= value).mean()
        if share < 2 * level:  # a statistic of few values may jump over the level
            assert share / factor <= math.exp(null.log_survival(value)) <= share * factor, level
