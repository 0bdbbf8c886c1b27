"""Every statistic against SciPy's, over samples with and without ties, constants, gaps and a few rows."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import jensenshannon

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
    sorted_window,
    wasserstein,
)
from tests.detectors import scipys

RANDOM = np.random.default_rng(8)


def _zero_inflated(count: int, mean: float) -> Matrix:
    return np.asarray(np.where(RANDOM.random(count) < 0.6, 0.0, RANDOM.normal(mean, 1, count)), dtype=np.float64)


PAIRS: dict[str, tuple[Matrix, Matrix]] = {
    "alike": (RANDOM.normal(size=900), RANDOM.normal(size=300)),
    "shifted": (RANDOM.normal(size=5000), RANDOM.normal(0.4, 1, 500)),
    "apart": (RANDOM.normal(size=700), RANDOM.normal(9, 1, 200)),
    "integers": (RANDOM.poisson(1, 800).astype(np.float64), RANDOM.poisson(1.3, 250).astype(np.float64)),
    "constant": (np.ones(100), np.ones(40)),
    "one value each": (np.ones(100), np.full(40, 2.0)),
    "zero-inflated": (_zero_inflated(2000, 0), _zero_inflated(300, 0.5)),
    "few rows": (RANDOM.normal(size=4), RANDOM.normal(size=3)),
    "shared values": (np.arange(50.0), np.arange(25.0) * 2),
    "larger window": (RANDOM.normal(size=100), RANDOM.normal(size=2000)),
}
EVERY = pytest.mark.parametrize(("reference", "window"), PAIRS.values(), ids=PAIRS)


def prepared(reference: Matrix, window: Matrix) -> tuple[SortedSample, Matrix]:
    """The samples with missing values among them."""
    return SortedSample.of(np.append(reference, [np.nan] * 3)), sorted_window(np.append(np.nan, window))


@EVERY
def test_kolmogorov_smirnov_is_scipys_to_the_bit(reference: Matrix, window: Matrix) -> None:
    d, p_value = scipys.kolmogorov_smirnov(reference, window)
    statistic = kolmogorov_smirnov(*prepared(reference, window))
    [log_p] = ks_log_p(np.array([statistic]), np.array([len(reference)]), np.array([float(len(window))]))

    assert statistic == d
    assert math.exp(log_p) == pytest.approx(p_value, rel=1e-9, abs=1e-300)


@EVERY
def test_cramer_von_mises_is_scipys_with_ties_too(reference: Matrix, window: Matrix) -> None:
    expected = stats.cramervonmises_2samp(reference, window, method="asymptotic")
    statistic = cramer_von_mises(*prepared(reference, window))

    assert statistic == expected.statistic
    assert cvm_p_value(statistic, len(reference), len(window)) == pytest.approx(expected.pvalue, abs=1e-12)


@EVERY
def test_wasserstein_is_scipys_in_standard_deviations(reference: Matrix, window: Matrix) -> None:
    found = wasserstein(*prepared(reference, window))

    if reference.std() == 0:
        assert found is None
    else:
        assert found == pytest.approx(stats.wasserstein_distance(reference, window) / reference.std(), rel=1e-9)


def test_an_infinite_value_leaves_no_area_to_state() -> None:
    sample, _ = prepared(RANDOM.normal(size=50), np.ones(1))

    assert wasserstein(sample, np.array([0.0, np.inf])) is None
    assert kolmogorov_smirnov(sample, np.array([np.inf, np.inf])) == 1.0


FAR = np.array([[5000, 0, 0, 100, 7, 7, 7], [0, 5000, 2, 0, 7, 7, 7]])
COUNTS = [([50, 30, 15, 5, 0], [20, 30, 0, 9, 0]), ([4000, 990, 10], [400, 80, 20]), ([7], [9]), ([5, 0], [0, 9])]


@pytest.mark.parametrize(("reference", "window"), COUNTS)
def test_chi_square_is_scipys_without_yates(reference: list[int], window: list[int]) -> None:
    table = np.array([reference, window])
    # beside a longer feature, far in the tail
    [statistic, _], [log_p, far] = chi_square(*(beside([row, known]) for row, known in zip(table, FAR, strict=True)))
    table = table[:, table.sum(axis=0) > 0]
    expected = stats.chi2_contingency(table, correction=False)

    assert statistic == pytest.approx(float(expected.statistic), rel=1e-12)
    assert math.exp(log_p) == pytest.approx(float(expected.pvalue), rel=1e-9)
    assert far == pytest.approx(stats.chi2.logsf(stats.chi2_contingency(FAR, correction=False).statistic, 6))


@pytest.mark.parametrize(("reference", "window"), COUNTS)
def test_jensen_shannon_is_scipys_base_2(reference: list[int], window: list[int]) -> None:
    found = float(jensen_shannon(np.array(reference, float), np.array(window, float)))

    assert found == pytest.approx(float(jensenshannon(reference, window, base=2)), abs=1e-9)


def test_psi_is_its_formula_with_half_a_row_in_an_empty_bin() -> None:
    reference, window = np.array([60.0, 40.0, 0.0, 0.0]), np.array([10.0, 0.0, 10.0, 0.0])
    p, q = np.array([0.5, 0.5 / 20, 0.5]), np.array([0.6, 0.4, 0.5 / 100])

    assert float(population_stability(reference, window)) == pytest.approx(float(((p - q) * np.log(p / q)).sum()))
    assert float(population_stability(reference, reference)) == 0.0


@pytest.mark.parametrize("divergence", [population_stability, jensen_shannon])
def test_many_windows_at_once_are_each_ones_own(divergence: object) -> None:
    reference, windows = np.array([60.0, 40.0, 3.0]), RANDOM.multinomial(50, [0.5, 0.4, 0.1], 20).astype(float)
    found: NDArray[np.float64] = divergence(reference, windows)  # type: ignore[operator]

    assert found == pytest.approx([float(divergence(reference, window)) for window in windows])  # type: ignore[operator]
