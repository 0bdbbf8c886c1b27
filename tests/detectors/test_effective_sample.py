import numpy as np
import pytest
from scipy import stats

from inferwatch_detectors import estimate_dependence
from inferwatch_detectors.effective_sample import EffectiveSample, design_effects, mean_log_p
from tests.detectors.references import numbers
from tests.detectors.test_dependence import autoregressive


def test_what_is_known_is_taken_as_it_is() -> None:
    assert EffectiveSample(0.25).design_effects.tolist() == [4]
    [[alone]] = design_effects(100, np.array([1000]), [EffectiveSample(0.25)], [EffectiveSample()])
    live, reference = [EffectiveSample(0.25), EffectiveSample(0.25, 0.1)], [EffectiveSample()] * 2
    beside = design_effects(100, np.array([1000, 1000]), live, reference)

    assert alone == pytest.approx((4 + 0.1) / 1.1)
    assert beside[0] == pytest.approx(np.full(7, alone))
    assert len(set(beside[1])) == 7
    assert mean_log_p(np.full((2, 1), -7.5)).tolist() == [-7.5, -7.5]
    assert mean_log_p(np.full(7, -7.5)) == pytest.approx(-7.5)


def test_seven_equal_components_that_count_alike_are_known_seven_times_as_well_unless_two_cells_have_one() -> None:
    sample = EffectiveSample(1 / 50, 0.07, (50.0,) * 7)
    alone, two_cells, all_ = (np.log(sample.component_effects(alike))[:, 0].std() for alike in (0, 1, 9))

    assert alone / all_ == pytest.approx(np.sqrt(7), rel=0.05)
    assert two_cells == alone


@pytest.mark.parametrize("freedom", [20, 50, 200])
@pytest.mark.parametrize("level", [0.05, 1e-3, 1e-5])
def test_a_statistic_over_an_estimated_variance_is_f_distributed(freedom: int, level: float) -> None:
    """chi-square with 1 degree of freedom over an estimate with 2 / variance of them, within 15 %."""
    value = stats.f.isf(level, 1, freedom)
    [effects] = design_effects(500, np.array([1e12]), [EffectiveSample(1.0, 2 / freedom)], [EffectiveSample()])

    assert np.exp(mean_log_p(stats.chi2.logsf(value / effects, 1))) == pytest.approx(level, rel=0.15)


@pytest.mark.parametrize(("phi", "rows"), [(0.5, 500), (0.9, 2000)])
def test_the_stated_variance_is_that_of_estimates_of_different_services(phi: float, rows: int) -> None:
    """60 services: the standard deviation of a logarithm is then known within 20 %."""
    random = np.random.default_rng(4)
    found = estimate_dependence(autoregressive(random, rows, 60, phi), numbers(random.normal(size=(5000, 60))))
    observed = np.log(found.effective).std(ddof=1)

    assert np.sqrt(np.mean(found.variance)) == pytest.approx(observed, rel=0.4)


def test_independent_rows_are_mostly_known_to_be() -> None:
    """Of 100 services 70 at least find no autocorrelation beyond one standard error; none loses half of its rows."""
    random = np.random.default_rng(5)
    found = estimate_dependence(random.normal(size=(500, 100)), numbers(random.normal(size=(5000, 100))))

    assert sum(share == 1 for share in found.effective) > 70
    assert min(found.effective) > 0.5
    assert np.mean(found.effective) > 0.95
