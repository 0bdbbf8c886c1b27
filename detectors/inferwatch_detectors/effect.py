"""Effect sizes: how far a window is from its reference, whether or not that is significant, with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def mean_shifts(columns: Matrix, profiles: Sequence[NumericProfile], effective: Matrix) -> list[Effect]:
    """Return (window mean - reference mean) / reference sd of columns (d, n), missing values left out.

    The interval is the normal one of two samples, the window's counting `effective` (d,) rows a row. Nothing where the
    reference does not vary or the window has no value.
    """
    present = np.abs(columns) < LARGEST
    observed, whole = present.sum(axis=1), bool(present.all())
    known = [(profile.mean, profile.sd or math.nan, profile.observed) for profile in profiles]
    mean, sd, rows = np.array(known, dtype=np.float64).T
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        means = (columns if whole else np.where(present, columns, 0.0)).sum(axis=1) / observed
        around = columns - means[:, np.newaxis]
        around = around if whole else np.where(present, around, 0.0)
        spread = np.where(observed > 1, np.sqrt(np.vecdot(around, around) / observed) / sd, 1.0)
        shift = (means - mean) / sd
        error = _Z * np.sqrt(spread**2 / (observed * effective) + 1 / rows)
    found = zip(shift.tolist(), (shift - error).tolist(), (shift + error).tolist(), strict=True)
    return [Effect() if math.isnan(value) else Effect(value, low, high) for value, low, high in found]


def total_variations(counts: Counts, shares: Matrix, reference_rows: Counts, effective: Matrix) -> list[Effect]:
    """Return half the summed difference between windows' shares and the reference's `shares` (d, k), in [0, 1].

    `counts` (d, k) are the windows', `reference_rows` and `effective` (d,). Sampling alone makes the difference
    positive, so the interval's lower end is reduced by the expected excess: per cell the mean of a folded normal less
    its location, the location taken as the difference beyond one standard error.
    """
    rows = counts.sum(axis=1, keepdims=True)
    found = counts / rows
    difference = found - shares
    inverse = 1 / (rows[:, 0] * effective) + 1 / reference_rows
    pooled = (found + shares) / 2
    errors = np.sqrt(pooled * (1 - pooled) * inverse[:, np.newaxis])
    value = np.abs(difference).sum(axis=1) / 2
    excess = _folded_excess(np.maximum(np.abs(difference) - errors, 0), errors).sum(axis=1) / 2
    signs = np.sign(difference)
    variance = (np.vecdot(pooled, signs**2) - np.vecdot(pooled, signs) ** 2) * inverse / 4
    error = _Z * np.sqrt(np.maximum(variance, 0.0))
    low, high = np.clip(value - excess - error, 0, 1), np.minimum(value + error, 1)
    return list(map(Effect, value.tolist(), low.tolist(), high.tolist()))


def _folded_excess(location: Matrix, errors: Matrix) -> Matrix:
    """E|N(location, errors^2)| - location."""
    ratio = np.divide(location, errors, out=np.zeros_like(location), where=errors > 0)
    below = np.reshape([0.5 * math.erfc(value / math.sqrt(2)) for value in ratio.ravel().tolist()], ratio.shape)
    return np.asarray(errors * (2 * np.exp(-0.5 * ratio**2) / math.sqrt(2 * math.pi) - 2 * ratio * below))
