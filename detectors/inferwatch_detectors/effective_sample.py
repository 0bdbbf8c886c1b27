"""What a row of one feature brings where rows depend on each other, and how surely that is known.

An estimated design effect is off by a factor, and in the tail, where alarms are, the factors that make it too small
weigh far more than those that make it too large: with the estimate taken for the truth, services together alarm more
often than promised. So p-values are averaged over what the truth may be. A long-run variance estimated with relative
variance v is distributed about as chi-square with 2 / v degrees of freedom over these (M. Priestley, Spectral Analysis
and Time Series (1981), 6.2), taken here by the cube root of E. Wilson and M. Hilferty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from inferwatch.reference.profile import Counts
from inferwatch.rows import Matrix
from inferwatch_detectors.components import COMPONENTS

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(7)
_LOG_WEIGHTS = np.log(_WEIGHTS / _WEIGHTS.sum())
_LEAST_ROOT = 0.05


class EffectiveSample(NamedTuple):
    """The effective sample a row, in (0, 1], and the relative variance of its estimate; 0 where it is known.

    `components` (7,) are the design effects of a number's `components`; 1 / share each where they are not given.
    """

    share: float = 1.0
    variance: float = 0.0
    components: tuple[float, ...] = ()

    @property
    def design_effects(self) -> Matrix:
        """What 1 / share may be in truth (m,): at 7 nodes, of which `mean_log_p` knows the weights; one if known."""
        if self.variance == 0:
            return np.array([1 / self.share])
        spread = self.variance / 9
        return np.asarray(1 / (self.share * np.maximum(1 - spread + _NODES * math.sqrt(spread), _LEAST_ROOT) ** 3))

    def component_effects(self, alike: int = 0) -> Matrix:
        """Return what the components' design effects may be in truth (m, 7); those that are 1 remain 1.

        `alike`: the degrees of freedom of cells whose components count alike. As many estimates err apart from each
        other, so that the whole is known better than any of them; 0 where the slowest component rules.
        """
        effects = np.array(self.components or (1 / self.share,) * (COMPONENTS + 1))
        weights = effects**2 / (effects**2).sum()
        surer = max(float((weights**2).sum()), 1 / alike) if alike else 1.0
        possible = self._replace(variance=self.variance * surer).design_effects[:, np.newaxis] * self.share * effects
        return np.where(effects > 1, np.maximum(possible, 1), 1.0)


def design_effects(
    rows: float | Matrix,
    reference_rows: Matrix | Counts,
    live: Sequence[EffectiveSample],
    reference: Sequence[EffectiveSample],
) -> Matrix:
    """Return what the variance of windows' shares about the references' may be, in that of independent rows (d, m).

    `rows` of the window and `reference_rows` (d,), with the effective samples of both, of each feature. Of a feature
    whose dependence is known all m are the same.
    """
    ratio = (rows / reference_rows)[:, np.newaxis]
    return np.asarray((_beside(live) + ratio * _beside(reference)) / (1 + ratio))


def component_effects(
    rows: float | Matrix,
    reference_rows: Matrix | Counts,
    live: Sequence[EffectiveSample],
    reference: Sequence[EffectiveSample],
    alike: Sequence[int] | None = None,
) -> Matrix:
    """Return `design_effects` of each component of each feature (d, m, 7); `alike` (d,) as in `EffectiveSample`."""
    ratio = (rows / reference_rows)[:, np.newaxis, np.newaxis]
    freedoms = alike or [0] * len(live)
    each = [
        sample.component_effects(freedom) for sample, freedom in zip((*live, *reference), [*freedoms] * 2, strict=True)
    ]
    nodes = max(map(len, each))
    both = np.array([np.broadcast_to(effects, (nodes, COMPONENTS + 1)) for effects in each])
    return np.asarray((both[: len(live)] + ratio * both[len(live) :]) / (1 + ratio))


def mean_log_p(log_p: Matrix) -> Matrix:
    """Return the log of the mean of p-values whose logs (..., m) belong to the nodes of `design_effects`."""
    if log_p.shape[-1] == 1:
        return log_p[..., 0]
    return np.asarray(np.logaddexp.reduce(log_p + _LOG_WEIGHTS, axis=-1))


def _beside(samples: Sequence[EffectiveSample]) -> Matrix:
    nodes = [sample.design_effects for sample in samples]
    return np.array([np.broadcast_to(each, max(map(len, nodes))) for each in nodes])
