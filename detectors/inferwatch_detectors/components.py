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
from typing import NamedTuple

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


def captured(shares: Matrix, weights: Matrix) -> Matrix:
    """Return how much (6,) of each component the weighted squared deviations of cells with shares (k,) tell."""
    return np.asarray(_parts(shares) ** 2 @ weights)


def _parts(shares: Matrix) -> Matrix:
    """The covariance (6, k) of being in each cell with each component, of variance 1."""
    return np.diff(_loadings(np.cumsum(shares)[:-1]).T, axis=1, prepend=0, append=0)


def _spectra(shares: Matrix, weights: Matrix, effects: Matrix, ordered: bool) -> Matrix:
    """The weights (m, j) of squared normals in the cells' deviations, of which those of independent rows sum to 1."""
    parts = _parts(shares)
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


class Widened(NamedTuple):
    """What squared largest deviations of independent rows are as rare as those of dependent rows.

    These are divided by the largest variance `wide` (..., m), in that of independent rows, and a `constant` (..., 1) is
    added: so it is far out, and the constant comes from draws.
    """

    wide: Matrix
    constant: Matrix

    def __call__(self, squares: Matrix) -> Matrix:
        """Return the squares (..., m) of independent rows that are as rare as these (...)."""
        each = squares[..., np.newaxis]
        return np.clip(each / self.wide + self.constant, 0, each)


def widening(effects: Matrix, places: Matrix | None = None) -> Widened:
    """Return what makes n D^2 of dependent rows as rare as of independent ones, for design effects (d, m, 7).

    `places` (p,) in (0, 1) are the shares at or below each value of a variable that takes few; without them it is
    continuous.
    """
    grid = _grid() if places is None else tuple(places.tolist())
    wide = _wide(effects, grid)
    middle = np.round(effects[:, effects.shape[1] // 2], 2).tolist()
    return Widened(wide, np.array([[_constant(tuple(each), grid)] for each in middle]))


@lru_cache(maxsize=4096)
def _constant(effects: tuple[float, ...], places: tuple[float, ...]) -> float:
    """What the squares of the largest deviations, over the largest variance, lack to those of a bridge."""
    if effects == (effects[0],) * len(effects):
        return 0.0
    bridges, normals = _drawn(places)
    own, others = np.array(effects[:-1]), effects[-1]
    loadings = _loadings(np.array(places))
    widened = math.sqrt(others) * bridges + normals * np.sqrt(np.maximum(own - others, 0)) @ loadings.T
    between = _BETWEEN_POINTS / math.sqrt(_POINTS) if places == _grid() else 0.0
    plain = _largest(bridges) + between
    found = _largest(widened) + between * math.sqrt(others)
    wide = float(_wide(np.array(effects), places))
    return float((plain**2 - found**2 / wide).mean())


def _largest(paths: Matrix) -> Matrix:
    """The largest deviations of the paths that deviate most, ascending."""
    return np.sort(np.abs(paths).max(axis=1))[-_DECIDING:]


@lru_cache(maxsize=2)
def _drawn(places: tuple[float, ...]) -> tuple[Matrix, Matrix]:
    """Brownian bridges (n, p) at places, and a normal (n, 6) for each component."""
    random = np.random.default_rng(0)
    steps = np.diff(places, prepend=0, append=1)
    paths = np.cumsum(random.standard_normal((_DRAWS, len(steps))) * np.sqrt(steps), axis=1)
    return paths[:, :-1] - paths[:, -1:] * np.array(places), random.standard_normal((_DRAWS, COMPONENTS))


def _wide(effects: Matrix, places: tuple[float, ...]) -> Matrix:
    """The largest variance (...) of a distribution's deviation at any place over that of independent rows."""
    at = np.array(places)
    plain = at * (1 - at)
    squares = _loadings(at) ** 2
    variances = effects[..., :-1] @ squares.T + effects[..., -1:] * (plain - squares.sum(axis=1))
    return np.asarray(variances.max(axis=-1) / plain.max())


@lru_cache(maxsize=1)
def _grid() -> tuple[float, ...]:
    """The equal distances at which a continuous variable's deviations are drawn."""
    return tuple((np.arange(1, _POINTS) / _POINTS).tolist())


def _loadings(places: Matrix) -> Matrix:
    """The covariance (p, 6) of being at or below each place (p,) in [0, 1] with each component, of variance 1."""
    scores = _normal_scores(np.clip(places, 1e-12, 1 - 1e-12))
    density = np.exp(-(scores**2) / 2) / math.sqrt(2 * math.pi)
    norms = np.sqrt([math.factorial(j) for j in range(1, COMPONENTS + 1)])
    below = np.polynomial.hermite_e.hermevander(scores, COMPONENTS - 1)
    return np.asarray(-below * density[:, np.newaxis] / norms)


def _normal_scores(ranks: Matrix) -> Matrix:
    return np.array([NormalDist().inv_cdf(rank) for rank in ranks.tolist()])
