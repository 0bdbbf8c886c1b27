"""The regression whose solution is the Shapley values, and how far off a solution from sampled coalitions may be."""

from __future__ import annotations

import numpy as np

from inferwatch.rows import Matrix
from inferwatch_explainers.coalitions import Design


def shapley_values(
    design: Design, worth: Matrix, complement: Matrix, total: Matrix, rows_left: float = 0.0
) -> tuple[Matrix, Matrix]:
    """Return Shapley values (n, d) and their standard errors (n, d), from the worth of pairs of coalitions.

    `worth` and `complement` (n, p, b) are the worth of the first p pairs' two sides over b background rows; `total`
    (n,) is the worth of all features less that of none, which the values sum to. The values solve the weighted least
    squares problem of Lundberg & Lee (2017, eq. 2 and theorem 2) on the pairs given, which is exact when all are given.

    The standard error adds two parts. Coalitions: the HC3 sandwich of the weighted fit (MacKinnon & White, J.
    Econometrics 29, 1985), each squared residual times the fraction of its stratum that was not drawn (Cochran,
    "Sampling Techniques", 1977, eq. 5.6), so that what was enumerated adds nothing. Background: the variance between
    the values that single background rows give, times `rows_left`, the fraction of the background not asked. NaN where
    the pairs do not suffice to tell.
    """
    count, d = worth.shape[1], design.masks.shape[1]
    share = np.repeat(total[:, None] / d, d, axis=1)
    if count == 0:
        return share, np.zeros_like(share) if design.total == 0 else np.full_like(share, np.nan)
    z = design.masks[:count] - design.sizes[:count, None] / d
    weights, unseen = design.weights(count)
    inverse = np.linalg.pinv((z * weights[:, None]).T @ z, rcond=1e-10, hermitian=True)
    solver = inverse @ (z * weights[:, None]).T
    odd = (worth - complement) / 2
    response = odd.mean(axis=2) - (design.sizes[:count] / d - 0.5) * total[:, None]
    values = response @ solver.T
    if not design.covers(count):  # what no pair of a size would have said, no residual tells
        return values + share, np.full_like(share, np.nan)
    variance = _fit_variance(solver, z, response - values @ z.T, unseen) + _row_variance(solver, odd, rows_left)
    return values + share, np.sqrt(variance)


def _fit_variance(solver: Matrix, z: Matrix, residuals: Matrix, unseen: Matrix) -> Matrix:
    if not unseen.any():
        return np.zeros((len(residuals), solver.shape[0]))
    if len(z) < z.shape[1]:  # no residual is left once d - 1 values are fitted
        return np.full((len(residuals), solver.shape[0]), np.nan)
    left = 1.0 - np.einsum("pd,dp->p", z, solver)
    left[(unseen > 0) & (left < 1e-9)] = np.nan
    scaled = np.where(unseen > 0, residuals / np.where(unseen > 0, left, 1.0), 0.0)
    return np.asarray((scaled**2 * unseen) @ (solver.T**2))


def _row_variance(solver: Matrix, odd: Matrix, rows_left: float) -> Matrix:
    rows = odd.shape[2]
    if rows_left == 0.0:
        return np.zeros((len(odd), solver.shape[0]))
    if rows < 2:
        return np.full((len(odd), solver.shape[0]), np.nan)
    by_row = np.einsum("dp,npb->nbd", solver, odd)
    return np.asarray(by_row.var(axis=1, ddof=1) * rows_left / rows)
