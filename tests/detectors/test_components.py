import numpy as np
import pytest
from scipy.special import ndtr

from inferwatch.rows import Matrix
from inferwatch_detectors import estimate_dependence
from inferwatch_detectors.cells import CellTest
from inferwatch_detectors.components import COMPONENTS, Matched, widening
from inferwatch_detectors.two_sample import SortedSample, kolmogorov_smirnov, sorted_windows
from tests.detectors.references import numbers
from tests.detectors.test_dependence import autoregressive

AGAINST = numbers(np.random.default_rng(1).normal(size=(100_000, 1)))
ROWS, WINDOWS = 200, 3000


def gaussian(phi: float) -> Matrix:
    """The design effects (7,) of an AR(1) series, which are known."""
    own = phi ** np.arange(1, COMPONENTS + 1)
    return np.append((1 + own) / (1 - own), 1.0)


def test_each_component_depends_by_itself() -> None:
    random = np.random.default_rng(2)
    [series] = estimate_dependence(autoregressive(random, 20_000, 1, 0.6), AGAINST).components
    [independent] = estimate_dependence(random.normal(size=(20_000, 1)), AGAINST).components
    [runs] = estimate_dependence(np.repeat(random.normal(size=(5000, 1)), 4, axis=0), AGAINST).components

    flag = autoregressive(random, 20_000, 1, 0.6) > 1
    [flags] = estimate_dependence(flag.astype(float), numbers(flag[::4].astype(float))).components

    assert series[:3] == pytest.approx(gaussian(0.6)[:3], rel=0.2)
    assert flags == pytest.approx((flags[0],) * 7), "what takes two values has one component"
    assert max(independent) < 1.05
    assert runs == pytest.approx((4.0,) * 7, rel=0.2)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
def test_what_is_as_rare_is_that_of_independent_rows(phi: float) -> None:
    """The 2 % points of chi-square and of n D^2 over 3,000 windows of 200 rows, brought to independent rows.

    And of n D^2 of the rows rounded to whole standard deviations.
    """
    random = np.random.default_rng(3)
    stream, plain = (autoregressive(random, ROWS * WINDOWS, 1, of).reshape(WINDOWS, ROWS) for of in (phi, 0.0))
    effects = gaussian(phi)[np.newaxis]
    test = CellTest(CellTest.of(AGAINST.profile.features[0]).alpha, ordered=False)
    found, expected = np.quantile(_chi_squares(test, stream), 0.98), np.quantile(_chi_squares(test, plain), 0.98)
    matched = Matched.of(test.shares, test.weights(ROWS), effects, (test.mean(ROWS),) * 2, ordered=False)
    widened = widening(effects[np.newaxis])
    rounded = widening(effects[np.newaxis], ndtr(np.arange(-3.5, 4)))

    assert matched(np.array([found])).item() == pytest.approx(expected, rel=0.08)
    assert widened(_square(stream)).item() == pytest.approx(_square(plain), rel=0.12)
    assert rounded(_square(np.round(stream))).item() == pytest.approx(_square(np.round(plain)), rel=0.12)


def test_rows_that_all_count_a_quarter_have_a_quarter_of_the_statistic() -> None:
    test = CellTest(np.full(10, 500.0), ordered=False)
    effects = np.full((1, COMPONENTS + 1), 4.0)
    matched = Matched.of(test.shares, test.weights(500), effects, (test.mean(500),) * 2, ordered=False)

    assert matched(np.array([30.0, 100.0])).ravel() == pytest.approx([7.5, 25.0], rel=1e-3)
    assert widening(effects[np.newaxis])(np.array(2.0)).item() == pytest.approx(0.5)


def _chi_squares(test: CellTest, windows: Matrix) -> Matrix:
    cells = AGAINST.profile.features[0].cells(windows.ravel()).reshape(windows.shape)
    return test.statistic(np.array([np.bincount(each, minlength=len(test.alpha)) for each in cells]))


def _square(windows: Matrix) -> Matrix:
    known = AGAINST.rows[:, 0]
    sample = SortedSample.of(known if windows[0, 0] % 1 else np.round(known))
    distances = [kolmogorov_smirnov(sample, window) for window in sorted_windows(windows)]
    return np.asarray(np.quantile(distances, 0.98) ** 2 * ROWS)
