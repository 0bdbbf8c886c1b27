"""How likely counts in a window are, given counts in the reference, where nothing changed."""

from __future__ import annotations

import math

import numpy as np

from inferwatch.errors import MissingExtra
from inferwatch.reference.profile import Counts


def log_at_least(count: int, rows: int, a: float, b: float) -> float:
    """Return log P(K >= count) of a beta-binomial K of `rows` draws with parameters `a` and `b`, at most 0.

    With `a` - prior rows of a kind among the reference's and `b` - prior others, K is how many of a window's are of it.
    """
    if count <= 0:
        return 0.0
    try:
        from scipy.special import betaln, gammaln
    except ImportError as error:
        raise MissingExtra("the quality detector", "detect") from error
    k = np.arange(count, rows + 1)
    ways = gammaln(rows + 1) - gammaln(k + 1) - gammaln(rows - k + 1)
    terms = ways + betaln(a + k, b + rows - k) - betaln(a, b)
    most = float(terms.max())
    return min(0.0, most + math.log(float(np.exp(terms - most).sum())))


def log_all_alike(counts: Counts, rows: int) -> float:
    """Return a bound on the log of the probability that so many rows all lie in one cell of a reference's counts (k,).

    The sum over cells of E[share^rows], the shares being Dirichlet with half a row added to each count.
    """
    alpha = counts + 0.5
    total = float(alpha.sum())
    terms = [
        math.lgamma(a + rows) - math.lgamma(a) + math.lgamma(total) - math.lgamma(total + rows) for a in alpha.tolist()
    ]
    most = max(terms)
    return min(0.0, most + math.log(sum(math.exp(term - most) for term in terms)))
