"""Effect sizes: how far a window is from its reference, whether or not that is significant, with 95 % intervals."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from inferwatch.reference.profile import LARGEST, Counts, NumericProfile
from inferwatch.rows import Matrix

_Z = 1.959963984540054


class Effect(NamedTuple):
    """An effect and its 95 % interval; all None where there is none to state."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


def two_digits(number: float) -> str:
    """Return a number with two significant digits and without an exponent, as people read it.

    >>> [two_digits(number) for number in (0.0123, 3.14, 100.0, 413.2, 1234567.0)]
    ['0.012', '3.1', '100', '410', '1,200,000']
    """
    return f"{float(f'{number:.2g}'):,.15g}"


def mean_shift(column: Matrix, profile: NumericProfile, effective: float) -> Effect:
    """Return (window mean - reference mean) / reference sd of a column (n,), missing values left out.

    The interval is the normal one of two samples, the window's counting `effective` rows a row. Nothing where the
    reference does not vary or the window has no value.
    """
    values = column[np.abs(column) < LARGEST]
    if not profile.sd > 0 or not len(values):
        return Effect()
    spread = float(values.std()) / profile.sd if len(values) > 1 else 1.0
    error = _Z * math.sqrt(spread**2 / (len(values) * effective) + 1 / profile.observed)
    shift = (float(values.mean()) - profile.mean) / profile.sd
    return Effect(shift, shift - error, shift + error)


def total_variation(counts: Counts, shares: Matrix, reference_rows: float, effective: float) -> Effect:
    """Return half the summed difference between the window's shares and the reference's `shares` (k,), in [0, 1].

    Sampling alone makes that positive, so the interval's lower end is reduced by the expected excess: per cell the mean
    of a folded normal less its location, the location taken as the difference beyond one standard error.
    """
    rows = float(counts.sum())
    found = counts / rows
    difference = found - shares
    inverse = 1 / (rows * effective) + 1 / reference_rows
    pooled = (found + shares) / 2
    errors = np.sqrt(pooled * (1 - pooled) * inverse)
    value = float(np.abs(difference).sum()) / 2
    excess = float(_folded_excess(np.maximum(np.abs(difference) - errors, 0), errors).sum()) / 2
    signs = np.sign(difference)
    variance = float(pooled @ signs**2 - (pooled @ signs) ** 2) * inverse / 4
    error = _Z * math.sqrt(max(variance, 0.0))
    return Effect(value, min(max(value - excess - error, 0.0), 1.0), min(value + error, 1.0))


def _folded_excess(location: Matrix, errors: Matrix) -> Matrix:
    """E|N(location, errors^2)| - location."""
    ratio = np.divide(location, errors, out=np.zeros_like(location), where=errors > 0)
    below = np.array([0.5 * math.erfc(value / math.sqrt(2)) for value in ratio.tolist()])
    return np.asarray(errors * (2 * np.exp(-0.5 * ratio**2) / math.sqrt(2 * math.pi) - 2 * ratio * below))
