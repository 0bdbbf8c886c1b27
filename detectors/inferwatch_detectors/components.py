"""Dependence of a number's distribution, component by component, and what it makes of statistics.

Rows that follow each other slowly move the middle of a distribution together, and its finer shape hardly: in a Gaussian
series with autocorrelations r the j-th Hermite polynomial of the normal scores has autocorrelations r^j (H. Lancaster,
Annals of Mathematical Statistics 28 (1957), 719-736). So each of the first few has a design effect of its own, and what
remains shares one. A chi-square statistic is then a sum of squared normals with those weights (J. Rao and A. Scott,
Annals of Statistics 12 (1984), 46-60), and Kolmogorov's distance the largest deviation of a bridge that the same
components widen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from inferwatch.rows import Matrix
from inferwatch_detectors.quadratic_form import FURTHEST, tail_curve

COMPONENTS = 6
"""Components with a design effect of their own; one more stands for all others."""
_CLIPPED = 1 / 64
_POINTS, _DRAWS, _DECIDING = 64, 8192, 400
_BETWEEN_POINTS = 0.5826
"""By how many standard deviations of a step a walk's largest value is below the path's between the points (D. Siegmund,
Sequential Analysis (1985), 10.3)."""


def hermite_scores(ranks: Matrix) -> Matrix:
    """Return the first components (n, 6) of ranks (n,) in [0, 1]: Hermite polynomials of their normal scores."""
    scores = _normal_scores(np.clip(ranks, _CLIPPED, 1 - _CLIPPED))
    return np.asarray(np.polynomial.hermite_e.hermevander(scores, COMPONENTS)[:, 1:])


@dataclass(frozen=True, eq=False)
class Matched:
    """What statistics of independent rows are as rare as those of dependent rows: `images` at `points`, (m, p) each."""

    points: Matrix
    images: Matrix

    @classmethod
    def of(
        cls, shares: Matrix, weights: Matrix, effects: Matrix, means: tuple[float, float], *, ordered: bool
    ) -> Matched:
        """Return it for the weighted squared deviations of cells in the order of their values.

        `shares` (k,) of the cells, `weights` (k,) of their squared deviations or, `ordered`, (k - 1,) of those of the
        cumulated shares; `effects` (m, 7), and the `means` of the statistic of independent rows: of these rows', and of
        the one that is returned.
        """
        own, returned = means
        [plain] = returned * _spectra(shares, weights, np.ones((1, COMPONENTS + 1)), ordered)
        rare = tail_curve(plain, FURTHEST * float(plain.max()))
        pairs = [_pair(own * spectrum, rare) for spectrum in _spectra(shares, weights, effects, ordered)]
        points, images = zip(*pairs, strict=True)
        return cls(np.array(points), np.array(images))

    def __call__(self, statistics: Matrix) -> Matrix:
        """Return the statistics (..., m) of independent rows that are as rare as these (...)."""
        found = [np.interp(statistics, *pair) for pair in zip(self.points, self.images, strict=True)]
        return np.stack(found, axis=-1)


def _spectra(shares: Matrix, weights: Matrix, effects: Matrix, ordered: bool) -> Matrix:
    """The weights (m, j) of squared normals in the cells' deviations, of which those of independent rows sum to 1."""
    parts = np.diff(_loadings(np.cumsum(shares)[:-1]).T, axis=1, prepend=0, append=0)
    plain = np.diag(shares) - np.outer(shares, shares)
    own = effects[:, :-1] - effects[:, -1:]
    covariances = effects[:, -1:, np.newaxis] * plain + np.einsum("mj,jk,jl->mkl", own, parts, parts)
    if ordered:
        covariances, plain = (each.cumsum(-1).cumsum(-2)[..., :-1, :-1] for each in (covariances, plain))
    root = np.sqrt(weights)
    return np.linalg.eigvalsh(covariances * np.outer(root, root)).clip(0) / (weights @ np.diag(plain))


def _pair(weights: Matrix, rare: tuple[Matrix, Matrix]) -> tuple[Matrix, Matrix]:
    points, log_p = tail_curve(weights, FURTHEST * float(weights.max()))
    return np.append(0, points), np.append(0, np.interp(log_p, rare[1], rare[0]))


def widening(effects: Matrix) -> tuple[Matrix, Matrix]:
    """Return what makes squared largest deviations of dependent rows as rare as those of independent ones.

    `effects` (d, m, 7) are the design effects of each feature. Squares are divided by the largest variance (d, m), a
    bridge's being 1, and a constant (d, 1) is added: so it is far out, and the constant comes from draws.
    """
    wide = 4 * _variances(effects).max(axis=-1)
    middle = np.round(effects[:, effects.shape[1] // 2], 2).tolist()
    return wide, np.array([[_constant(tuple(each))] for each in middle])


@lru_cache(maxsize=4096)
def _constant(effects: tuple[float, ...]) -> float:
    """What the squares of the largest deviations, over the largest variance, lack to those of a bridge."""
    if effects == (effects[0],) * len(effects):
        return 0.0
    bridges, normals = _drawn()
    own, others = np.array(effects[:-1]), effects[-1]
    widened = math.sqrt(others) * bridges + normals * np.sqrt(np.maximum(own - others, 0)) @ _grid_loadings().T
    between = _BETWEEN_POINTS / math.sqrt(_POINTS)
    plain = _largest(bridges) + between
    found = _largest(widened) + between * math.sqrt(others)
    wide = 4 * float(_variances(np.array(effects)).max())
    return float((plain**2 - found**2 / wide).mean())


def _largest(paths: Matrix) -> Matrix:
    """The largest deviations of the paths that deviate most, ascending."""
    return np.sort(np.abs(paths).max(axis=1))[-_DECIDING:]


@lru_cache(maxsize=1)
def _drawn() -> tuple[Matrix, Matrix]:
    """Brownian bridges (n, 63) at equal distances, and a normal (n, 6) for each component."""
    random = np.random.default_rng(0)
    paths = np.cumsum(random.standard_normal((_DRAWS, _POINTS)) / math.sqrt(_POINTS), axis=1)
    return paths[:, :-1] - paths[:, -1:] * _places(), random.standard_normal((_DRAWS, COMPONENTS))


def _variances(effects: Matrix) -> Matrix:
    """The variance (..., 63) of a distribution's deviation at each place, of design effects (..., 7)."""
    squares = _grid_loadings() ** 2
    places = _places()
    rest = places * (1 - places) - squares.sum(axis=1)
    return np.asarray(effects[..., :-1] @ squares.T + effects[..., -1:] * rest)


def _places() -> Matrix:
    return np.arange(1, _POINTS) / _POINTS


@lru_cache(maxsize=1)
def _grid_loadings() -> Matrix:
    return _loadings(_places())


def _loadings(places: Matrix) -> Matrix:
    """The covariance (p, 6) of being at or below each place (p,) in [0, 1] with each component, of variance 1."""
    scores = _normal_scores(np.clip(places, 1e-12, 1 - 1e-12))
    density = np.exp(-(scores**2) / 2) / math.sqrt(2 * math.pi)
    norms = np.sqrt([math.factorial(j) for j in range(1, COMPONENTS + 1)])
    below = np.polynomial.hermite_e.hermevander(scores, COMPONENTS - 1)
    return np.asarray(-below * density[:, np.newaxis] / norms)


def _normal_scores(ranks: Matrix) -> Matrix:
    return np.array([NormalDist().inv_cdf(rank) for rank in ranks.tolist()])
