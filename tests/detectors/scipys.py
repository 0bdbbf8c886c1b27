"""What SciPy says of two samples."""

from __future__ import annotations

from typing import Any

import pytest
import scipy
from scipy import stats

from inferwatch.rows import Matrix

DIVIDES = tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 18)
"""Since 1.18 it multiplies counts by the rounded 1/n, which leaves the last digits of D."""


def kolmogorov_smirnov(reference: Matrix, window: Matrix) -> tuple[Any, float]:
    """Return D, to be equal to, and the asymptotic p-value."""
    found = stats.ks_2samp(reference, window, method="asymp")
    return found.statistic if DIVIDES else pytest.approx(found.statistic, rel=0, abs=2**-51), found.pvalue
