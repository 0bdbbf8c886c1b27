import numpy as np
import pytest
from scipy import stats

from inferwatch.reference.profile import CategoricalProfile, NumericProfile
from inferwatch_detectors.cells import CellTest

RANDOM = np.random.default_rng(5)


def test_well_filled_categories_give_pearsons_chi_square() -> None:
    counts = np.array([2000, 1500, 1000, 500])
    test = CellTest(counts.astype(float), ordered=False)
    window = np.array([180, 170, 100, 50])

    assert test.statistic(window) == pytest.approx(stats.chisquare(window, 500 * counts / 5000).statistic)


def test_ordered_cells_give_anderson_darling_by_its_sum() -> None:
    alpha = np.array([30.0, 20.0, 40.0, 10.0])
    window = np.array([10, 12, 20, 8])
    total = 0.0
    for edge in range(3):
        reached, expected = window[: edge + 1].sum() / 50, alpha[: edge + 1].sum() / 100
        between = (alpha[edge] + alpha[edge + 1]) / 200
        total += 50 * between * (reached - expected) ** 2 / (expected * (1 - expected))

    assert CellTest(alpha, ordered=True).statistic(window) == pytest.approx(total)


def test_many_bins_approach_the_anderson_darling_statistic_of_the_rows() -> None:
    sample = RANDOM.random(400)
    ordered = np.sort(sample)
    index = np.arange(1, 401)
    exact = -400 - np.mean((2 * index - 1) * (np.log(ordered) + np.log1p(-ordered[::-1])))
    bins = 2000
    test = CellTest(np.full(bins, 1e6), ordered=True)

    assert test.statistic(np.bincount((sample * bins).astype(int), minlength=bins)) == pytest.approx(exact, rel=0.02)


def test_no_single_row_decides() -> None:
    ordered = CellTest(np.array([0.5, 1e6, 1e6, 0.5]), ordered=True)
    unordered = CellTest(np.array([1e6, 1e6, 0.5]), ordered=False)

    assert ordered.statistic(np.array([1, 250, 249, 0])) == pytest.approx(0.25, rel=0.03)
    assert unordered.statistic(np.array([250, 249, 1])) == pytest.approx(0.5, rel=0.03)


def test_empty_cells_count_as_the_reference_suggests() -> None:
    continuous = NumericProfile.of(RANDOM.normal(size=1000))
    singletons = CategoricalProfile(np.array([500, 1, 1, 1, 0, 0, 0]))

    assert CellTest.of(continuous).alpha[[0, -2, -1]].tolist() == [1.0, 1.0, 0.5]
    assert CellTest.of(singletons).alpha.tolist() == [500.5, 1.5, 1.5, 1.5, 0.5, 3, 0.5]


@pytest.mark.parametrize("ordered", [True, False])
def test_the_stated_mean_is_that_of_draws(ordered: bool) -> None:
    test = CellTest(np.array([40.0, 100.0, 3.0, 0.5]), ordered)
    drawn = test.draw(60, 200_000, np.random.default_rng(1))

    assert drawn.mean() == pytest.approx(test.mean(60), rel=0.02)
    assert test.spectrum(60).sum() == pytest.approx(test.mean(60))


def test_draws_follow_the_dirichlet_multinomial_distribution() -> None:
    alpha = np.array([2.0, 3.0, 0.5])
    test = CellTest(alpha, ordered=False)
    drawn = test.draw(3, 100_000, np.random.default_rng(2))
    expected: dict[float, float] = {}
    for first in range(4):
        for second in range(4 - first):
            counts = np.array([first, second, 3 - first - second])
            value = round(float(test.statistic(counts)), 9)
            expected[value] = expected.get(value, 0.0) + float(
                stats.dirichlet_multinomial.pmf(counts, alpha, np.array(3))
            )
    values, found = np.unique(np.round(drawn, 9), return_counts=True)

    assert values.tolist() == pytest.approx(sorted(expected))
    assert found / 100_000 == pytest.approx([expected[value] for value in sorted(expected)], abs=0.006)


def test_the_furthest_value_is_the_largest_of_all_windows() -> None:
    test = CellTest(np.array([5.0, 9.0, 1.0]), ordered=True)
    values = [float(test.statistic(np.array([a, b, 6 - a - b]))) for a in range(7) for b in range(7 - a)]

    assert test.furthest(6) == pytest.approx(max(values))
