import numpy as np
import pytest
from scipy.stats import kstwo

from inferwatch_detectors.kolmogorov import log_survival

RANDOM = np.random.default_rng(5)


@pytest.mark.parametrize("rows", [1, 2, 50, 140, 141, 455, 909, 2500])
def test_the_tail_is_scipys_in_every_region(rows: int) -> None:
    statistics = np.concatenate([RANDOM.uniform(0, 1, 50), RANDOM.uniform(0, 3, 150) / np.sqrt(rows), [0.0, 1.0]])
    statistics = statistics.clip(0, 1)
    expected = kstwo.sf(statistics, rows)
    found = np.exp(log_survival(statistics, np.full(len(statistics), rows)))

    assert np.abs(found - expected).max() < 1e-11
    known = expected > 1e-290
    assert found[known] == pytest.approx(expected[known], rel=1e-9)


def test_far_tails_go_on_where_floating_point_ends() -> None:
    [near, far] = log_survival(np.array([0.6, 0.9]), np.array([2000, 2000]))

    assert far < near < -1000
    assert np.isfinite(far)


def test_each_statistic_has_its_own_number_of_rows() -> None:
    statistics, rows = np.array([0.05, 0.2, 0.05]), np.array([900, 50, 300])

    assert np.exp(log_survival(statistics, rows)) == pytest.approx(
        [kstwo.sf(d, n) for d, n in zip(statistics, rows, strict=True)], rel=1e-10
    )
