"""Conformal p-values: scores of rows that a detector was not fitted on turn any score into a false-alarm rate.

With n calibration scores, p = (1 + number of scores at least as large) / (n + 1) is at most t with probability at most
t for a row like the reference's (V. Vovk, A. Gammerman and G. Shafer, Algorithmic Learning in a Random World, 2005).
Over references that is exact where (n + 1) t is whole and scores have no ties. For one reference the rate achieved is
Beta(k, n + 1 - k) distributed with k = (n + 1) t.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import MissingExtra, UnkeepablePromise
from inferwatch.rows import Matrix

_FIT_SHARE = 0.2
_FIT_ROWS_A_FEATURE = 20
_LEAST_FIT_ROWS = 50
_LEAST_FIT_ROWS_A_FEATURE = 5


def split(rows: int, features: int, rate: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of reference rows to fit on, and of those to calibrate on, drawn at random.

    A fifth of the rows, or 20 a feature up to half of them, are for fitting, fewer where the rate needs them for
    calibration, but at least 50 and 5 a feature. Of the rest as many calibrate as bring (n + 1) rate nearest to a whole
    number. Raises `UnkeepablePromise` for a rate below 1 / (n + 1), naming the rows that it needs.
    """
    if not 0 < rate < 1:
        raise ValueError(f"a false-alarm rate is a number in (0, 1), not {rate}")
    least_fit = max(_LEAST_FIT_ROWS, _LEAST_FIT_ROWS_A_FEATURE * features)
    least_calibration = math.ceil(1 / rate - 1e-9) - 1
    if rows < least_fit + least_calibration:
        raise UnkeepablePromise(
            f"a false-alarm rate of {rate:g} needs a reference of at least {least_fit + least_calibration:,} rows, "
            f"{least_calibration:,} of them to calibrate on; this one keeps {rows:,}"
        )
    wanted_fit = max(int(_FIT_SHARE * rows), min(_FIT_ROWS_A_FEATURE * features, rows // 2), least_fit)
    most = max(rows - wanted_fit, least_calibration)
    order = np.random.default_rng(seed).permutation(rows)
    calibration = _calibration_size(least_calibration, most, rate)
    return order[calibration:], order[:calibration]


def _calibration_size(least: int, most: int, rate: float) -> int:
    sizes = np.arange(max(least, most // 2), most + 1)
    kept = np.floor((sizes + 1) * rate + 1e-9) / ((sizes + 1) * rate)
    return int(sizes[np.flatnonzero(kept >= kept.max() - 1e-9)[-1]])


@dataclass(frozen=True, eq=False)
class Conformal:
    """P-values of scores against `calibration` (n,) scores, ascending, at a false-alarm `rate`."""

    calibration: Matrix
    rate: float

    def p_values(self, scores: Matrix) -> Matrix:
        """Return the p-value (m,) of each score, in [1 / (n + 1), 1]."""
        count = len(self.calibration)
        return (1 + count - np.searchsorted(self.calibration, scores, side="left")) / (count + 1)

    @cached_property
    def allowed(self) -> int:
        """The largest k for which k / (n + 1) is still within the rate."""
        return int((len(self.calibration) + 1) * self.rate + 1e-9)

    @cached_property
    def threshold(self) -> float:
        """-log10 of a value between the largest p-value that fires and the least that does not."""
        return -math.log10((self.allowed + 0.5) / (len(self.calibration) + 1))

    @cached_property
    def achieved(self) -> tuple[float, float]:
        """The 95 % interval of the rate that this calibration achieves."""
        try:
            from scipy.stats import beta
        except ImportError as error:
            raise MissingExtra("calibrating outliers", "detect") from error
        achieved = beta(self.allowed, len(self.calibration) + 1 - self.allowed)
        return float(achieved.ppf(0.025)), float(achieved.ppf(0.975))
