"""A sign test: have the medians of numbers moved?"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from scipy.stats import betabinom

from inferwatch.errors import InvalidOption, InvalidRows
from inferwatch.finding import DetectorKind, FeatureFinding, Finding, Window
from inferwatch.promise import Promise
from inferwatch.reference import Reference
from inferwatch.rows import Batch


class MedianDrift:
    """Counts the values on both sides of the reference's median; fires as often as the promise allows.

    Where nothing changed, the count above, given the reference's own counts, is beta-binomial. Rows count as
    independent ones.
    """

    kind: ClassVar[DetectorKind] = "drift"
    method: ClassVar[str] = "median"

    def __init__(self, reference: Reference, *, promise: Promise) -> None:
        self._promise = promise
        self._width = len(reference.schema.features)
        self._sides: dict[int, tuple[str, float, float, float]] = {}
        for place, feature in enumerate(reference.schema.features):
            values = reference.rows[:, place]
            if feature.kind == "numeric" and not np.isnan(values).all():
                median = float(np.nanmedian(values))
                above, below = float((values > median).sum()), float((values < median).sum())
                self._sides[place] = (feature.name, median, above + 0.5, below + 0.5)
        if not self._sides:
            raise InvalidOption("the reference has no numbers, and so no medians")

    def observe(self, batch: Batch, /) -> list[Finding]:
        """Return one finding about the window. Raises `InvalidRows` for another width than the reference's."""
        if batch.values.ndim != 2 or batch.values.shape[1] != self._width or not len(batch):
            raise InvalidRows(f"rows have shape {batch.values.shape}; at least one, of {self._width} columns")
        threshold = self._promise.threshold(batch)
        features = [self._judged(batch, place, threshold) for place in self._sides]
        features.sort(key=lambda feature: -feature.score)
        worst, window = features[0], Window(int(batch.times_ns.min()), int(batch.times_ns.max()), len(batch))
        return [
            Finding(
                kind=self.kind,
                method=self.method,
                score=worst.score,
                threshold=threshold,
                time_ns=window.to_ns,
                window=window,
                p_value=10**-worst.score,
                features=tuple(features),
                assumption="rows independent",
                why=f"the median of {worst.name} moved" if worst.fired else "no median moved",
            )
        ]

    def _judged(self, batch: Batch, place: int, threshold: float) -> FeatureFinding:
        name, median, above, below = self._sides[place]
        values = batch.values[:, place]
        higher, lower = int((values > median).sum()), int((values < median).sum())
        null = betabinom(higher + lower, above, below)
        p_value = min(1.0, max(1e-300, 2 * min(float(null.sf(higher - 1)), float(null.cdf(higher)))))
        family = -math.expm1(len(self._sides) * math.log1p(-min(p_value, 1 - 1e-16)))  # Sidak over the features
        score = -math.log10(max(family, 1e-300))
        return FeatureFinding(name, score, float(higher), p_value, fired=score > threshold)
