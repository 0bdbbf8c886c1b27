"""How unlikely rows are under the reference's mean, covariance and category shares."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from inferwatch.products import product
from inferwatch.rows import Matrix, Schema
from inferwatch_detectors.effect import two_digits
from inferwatch_detectors.surprisal import surprisal, surprisals_of

_FLOOR = 1e-6
_NAMED = 2


class RowDistance:
    """-2 log-likelihood of rows, up to a constant: squared Mahalanobis distance plus surprisal of categories.

    Numbers, standardised, have the mean and the Ledoit-Wolf covariance (Journal of Multivariate Analysis 88 (2004),
    365-411) of the rows that it is fitted on; with numbers alone the score *is* the squared Mahalanobis distance. Each
    category adds -2 log of its share, with half a row for unlisted ones and missing values. A missing number is
    marginalised out: the distance is that of the present ones, under their own covariance. One inverse a pattern of
    missing values, kept for the patterns seen last. A feature without any number in the reference is left out; one
    without variance has unit scale and a variance of 1e-6.
    """

    def __init__(self, rows: Matrix, schema: Schema) -> None:
        kinds = np.array([feature.kind == "numeric" for feature in schema.features])
        self._features = schema.features
        seen = ~np.isnan(rows).all(axis=0)
        self._numeric = np.flatnonzero(kinds & seen)
        self._categorical = np.flatnonzero(~kinds)
        numbers = rows[:, self._numeric]
        self.mean = np.nanmean(numbers, axis=0) if len(self._numeric) else np.empty(0)
        sd = np.nanstd(numbers, axis=0) if len(self._numeric) else np.empty(0)
        self.sd = np.where(sd > 1e-12 * np.maximum(1.0, np.abs(self.mean)), sd, 1.0)
        self.covariance = _ledoit_wolf(np.nan_to_num((numbers - self.mean) / self.sd))
        self._surprisals = [surprisal(rows[:, index], self._features[index]) for index in self._categorical]
        self._precisions: dict[bytes, Matrix] = {}

    def contributions(self, rows: Matrix) -> Matrix:
        """Return what each feature (n, d) adds to the squared distance; the parts of a row sum to it.

        A number's part is its deviation times the sum of its precisions with all deviations, so correlated features
        share; it can be negative.
        """
        parts = np.zeros(rows.shape)
        deviations = self._deviations(rows)
        parts[:, self._numeric] = deviations * self._weighed(deviations)
        for index, known in zip(self._categorical, self._surprisals, strict=True):
            parts[:, index] = surprisals_of(rows[:, index], known)
        return parts

    def score(self, rows: Matrix) -> Matrix:
        """Return the squared distance (n,) of each row."""
        return self.squared(rows)

    def squared(self, rows: Matrix) -> Matrix:
        """Return the squared distance (n,) of each row."""
        deviations = self._deviations(rows)
        total = np.einsum("ij,ij->i", deviations, self._weighed(deviations))
        for index, known in zip(self._categorical, self._surprisals, strict=True):
            total += surprisals_of(rows[:, index], known)
        return np.asarray(total)

    def describe(self, row: Matrix) -> str:
        """Return what is unlikely about a row (d,), the features that contribute most first."""
        parts = self.contributions(row[np.newaxis])[0]
        order = np.argsort(-parts, kind="stable")
        named = [index for index in order[:_NAMED] if parts[index] >= 0.5 * parts[order[0]]]
        return " and ".join(self._said(int(index), float(row[index])) for index in named)

    def _said(self, index: int, value: float) -> str:
        feature = self._features[index]
        if feature.kind == "numeric":
            place = int(np.searchsorted(self._numeric, index))
            away = (value - float(self.mean[place])) / float(self.sd[place])
            return (
                f"{feature.name} is {two_digits(abs(away))} sd {'above' if away > 0 else 'below'} the reference's mean"
            )
        if math.isnan(value):
            return f"{feature.name} is missing"
        code = int(value)
        if code == len(feature.categories):
            return f"{feature.name} has a category that the reference does not list"
        share = math.exp(-0.5 * float(self._surprisals[int(np.searchsorted(self._categorical, index))][code]))
        return f"{feature.name} is {feature.categories[code]!r}, as {two_digits(100 * share)} % of the reference"

    def _deviations(self, rows: Matrix) -> Matrix:
        """The rows' numbers in standard deviations from the mean."""
        with np.errstate(over="ignore"):
            found = (rows.take(self._numeric, axis=1) - self.mean) / self.sd
        return np.clip(found, -1e100, 1e100, out=found)

    def _weighed(self, deviations: Matrix) -> Matrix:
        """Each row's deviations times their precision; absent ones, which are NaN, become 0 in both."""
        absent = np.isnan(deviations)
        if not absent.any():
            return product(deviations, self._precision(np.zeros(deviations.shape[1], dtype=bool)))
        weighed = np.zeros_like(deviations)
        patterns, members = np.unique(absent, axis=0, return_inverse=True)
        deviations[absent] = 0.0
        for number, pattern in enumerate(patterns):
            rows = np.flatnonzero(members.ravel() == number)
            weighed[rows] = product(deviations[rows], self._precision(pattern))
        return weighed

    def _precision(self, absent: NDArray[np.bool_]) -> Matrix:
        """The inverse covariance of the present features, 0 elsewhere."""
        key = absent.tobytes()
        if key not in self._precisions:
            if len(self._precisions) >= 1024:
                self._precisions.clear()
            precision = np.zeros_like(self.covariance)
            inside = np.ix_(~absent, ~absent)
            precision[inside] = np.linalg.inv(self.covariance[inside])
            self._precisions[key] = precision
        return self._precisions[key]


def _ledoit_wolf(rows: Matrix) -> Matrix:
    """The shrunk covariance (k, k) of centred columns, missing values at their mean, no variance below the floor."""
    count, width = rows.shape
    covariance: Matrix = rows.T @ rows / count
    mean = np.trace(covariance) / max(width, 1)
    dispersion = np.sum((covariance - mean * np.eye(width)) ** 2)  # k times d^2 of Lemma 3.3
    fourth = np.mean(np.einsum("ij,ij->i", rows, rows) ** 2)
    error = min((fourth - np.sum(covariance**2)) / count, dispersion)  # k times b^2 of Lemma 3.4
    share = error / dispersion if error > 0 else 0.0
    covariance *= 1 - share
    variances = np.diag(covariance) + share * mean
    np.fill_diagonal(covariance, np.where(variances < _FLOOR, _FLOOR, variances))
    return covariance
