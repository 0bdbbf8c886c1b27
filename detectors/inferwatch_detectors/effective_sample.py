"""What a row of one feature brings where rows depend on each other, and how surely that is known.

An estimated design effect is off by a factor, and in the tail, where alarms are, the factors that make it too small
weigh far more than those that make it too large: with the estimate taken for the truth, services together alarm more
often than promised. So p-values are averaged over what the truth may be. A long-run variance estimated with relative
variance v is distributed about as chi-square with 2 / v degrees of freedom over these (M. Priestley, Spectral Analysis
and Time Series (1981), 6.2), taken here by the cube root of E. Wilson and M. Hilferty.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from inferwatch.rows import Matrix

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_LOG_WEIGHTS = np.log(_WEIGHTS / _WEIGHTS.sum())
_LEAST_ROOT = 0.05


class EffectiveSample(NamedTuple):
    """The effective sample a row, in (0, 1], and the relative variance of its estimate; 0 where it is known."""

    share: float = 1.0
    variance: float = 0.0

    @property
    def design_effects(self) -> Matrix:
        """What 1 / share may be in truth (m,): at 7 nodes, of which `mean_log_p` knows the weights; one if known."""
        if self.variance == 0:
            return np.array([1 / self.share])
        spread = self.variance / 9
        return np.asarray(1 / (self.share * np.maximum(1 - spread + _NODES * math.sqrt(spread), _LEAST_ROOT) ** 3))


def design_effects(rows: float, reference_rows: float, live: EffectiveSample, reference: EffectiveSample) -> Matrix:
    """Return what the variance of a window's shares about the reference's may be, in that of independent rows (m,)."""
    ratio = rows / reference_rows
    return np.asarray((live.design_effects + ratio * reference.design_effects) / (1 + ratio))


def mean_log_p(log_p: ArrayLike) -> float:
    """Return the log of the mean of the p-values whose logs (m,) belong to the nodes of `design_effects`."""
    values = np.atleast_1d(log_p)
    return float(np.logaddexp.reduce(values + _LOG_WEIGHTS)) if len(values) > 1 else float(values[0])
