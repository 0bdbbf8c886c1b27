"""The upper tail of a weighted sum of squared normals: what Anderson-Darling and chi-square statistics tend to.

Barndorff-Nielsen's form of the saddlepoint approximation: D. Kuonen, "Saddlepoint approximations for distributions of
quadratic forms in normal variables", Biometrika 86 (1999), 929-935. Its relative error stays bounded however far out,
where a series or a numerical inversion has no digits left.
"""

from __future__ import annotations

import math

import numpy as np

from inferwatch.rows import Matrix

_POINTS = 400
FURTHEST = 2000
"""How many times its largest weight a sum is followed: beyond all that a score tells apart."""


def tail_curve(weights: Matrix, furthest: float) -> tuple[Matrix, Matrix]:
    """Return points x (m,), ascending from just above the mean to `furthest` at least, and -log P(sum w_i Z_i^2 > x).

    `weights` (k,) are not negative and not all zero.
    """
    largest = float(weights.max())
    lam = weights[weights > 1e-12 * largest] / largest
    reach = max(furthest / largest, 2 * lam.sum())
    # x(z) = sum lam / (1 - 2 z lam) passes `reach` at the latest where the largest term alone does
    gaps = np.geomspace(0.98, 0.5 / reach, _POINTS)[:, np.newaxis]
    z = (1 - gaps) / 2
    shrunk = 1 - 2 * z * lam
    x = (lam / shrunk).sum(axis=1)
    cumulant = -0.5 * np.log(shrunk).sum(axis=1)
    curvature = 2 * ((lam / shrunk) ** 2).sum(axis=1)
    z = z[:, 0]
    root = np.sqrt(2 * (z * x - cumulant))
    modified = root + np.log(z * np.sqrt(curvature) / root) / root
    return x * largest, np.array([_negative_log_tail(value) for value in modified.tolist()])


def _negative_log_tail(x: float) -> float:
    """-log P(Z > x) of a standard normal, at any distance."""
    if x < 25:
        return -math.log(0.5 * math.erfc(x / math.sqrt(2)))
    return 0.5 * x * x + math.log(x * math.sqrt(2 * math.pi)) - math.log1p(-1 / (x * x))
