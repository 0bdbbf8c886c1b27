"""Explanations: what an explainer says about predictions, in the shape that API, events and notebooks share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from inferwatch.explained import told
from inferwatch.pictures import Picture
from inferwatch.rows import Matrix

Target = int | str | bool | None
"""What was explained of a prediction: the index of an output, a label, or None for a model's only number."""

Span = tuple[int, int]
"""Where something stands in a text, in characters: its first one, and the one behind its last."""


class Shown(ABC):
    """Explanations, which a notebook shows as a picture where they are the value of a cell."""

    __slots__ = ()

    @abstractmethod
    def as_dicts(self) -> list[dict[str, Any]]:
        """Return one JSON-ready object an explanation, under the names of the public contract."""

    def picture(self, rows: ArrayLike | None = None, *, plot: str | None = None) -> Picture:
        """Return a picture that shows the values of rows (n, d) too, by one of the plots of `inferwatch.pictures`.

        `rows` may be a DataFrame, an array, or lists; categories as texts, not as codes. Raises as `Picture` does.
        """
        return Picture(self.as_dicts(), rows, plot=plot)

    def _repr_html_(self) -> str:
        return self.picture()._repr_html_()


class _Computed(Shown):
    """Explanations that an explainer has just made, and what it spent on all of them together."""

    __slots__ = ()
    predictor_calls: int
    predictor_rows: int
    elapsed_s: float
    deadline_reached: bool

    def _spent(self) -> dict[str, Any]:
        return {
            "predictor_calls": self.predictor_calls,
            "predictor_rows": self.predictor_rows,
            "elapsed_s": self.elapsed_s,
            "deadline_reached": self.deadline_reached,
        }


@dataclass(frozen=True, slots=True)
class Attribution(_Computed):
    """How much each feature contributed to each of n predictions, d features, in the unit of the predictor's output.

    `values` (n, d) sum by row to `prediction - base_value` up to `gap` (n,), the completeness residual. `base_value`
    and `prediction` (n,) are of the output that `target` (n) names. `std_error` (n, d) is the standard error of
    sampling coalitions and background rows: zero where `exact`, NaN where it cannot be told. `predictor_calls`,
    `predictor_rows` and `elapsed_s` (seconds) were spent on all n rows together. `deadline_reached` says that more
    would have been done. `shape` is that of one input where the features are the cells of a tensor.
    """

    method: str
    features: tuple[str, ...]
    values: Matrix
    base_value: Matrix
    prediction: Matrix
    target: tuple[Target, ...]
    gap: Matrix
    std_error: Matrix
    exact: bool
    predictor_calls: int
    predictor_rows: int
    elapsed_s: float
    deadline_reached: bool = False
    shape: tuple[int, ...] = ()

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return one JSON-ready object a row, under the names of the public contract; NaN becomes None."""
        shape = {"shape": list(self.shape)} if self.shape else {}
        return [self._entry(row) | shape for row in range(len(self.values))]

    def _entry(self, row: int) -> dict[str, Any]:
        return {
            "method": self.method,
            "features": list(self.features),
            "values": self.values[row].tolist(),
            "base_value": float(self.base_value[row]),
            "prediction": float(self.prediction[row]),
            "target": self.target[row],
            "gap": float(self.gap[row]),
            "std_error": [None if math.isnan(error) else error for error in self.std_error[row].tolist()],
            "exact": self.exact,
            **self._spent(),
        }


@dataclass(frozen=True, slots=True)
class WordAttributions(_Computed):
    """How much each word contributed to each of n predictions about texts.

    `attributions` (n) are each of one row, a feature a word; `positions` (n) say where in the text each word stands.
    The rest is as in `Attribution`.
    """

    method: str
    attributions: tuple[Attribution, ...]
    positions: tuple[tuple[Span, ...], ...]
    predictor_calls: int
    predictor_rows: int
    elapsed_s: float
    deadline_reached: bool = False

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return one JSON-ready object a text, under the names of the public contract; NaN becomes None."""
        return [
            entry | {"positions": [list(span) for span in spans]} | self._spent()
            for attribution, spans in zip(self.attributions, self.positions, strict=True)
            for entry in attribution.as_dicts()
        ]


@dataclass(frozen=True, slots=True)
class Anchors(_Computed):
    """A rule for each of n predictions that alone makes the model predict the same, nearly always.

    `anchors` (n) are the conditions of each rule, all of which have to hold: `feature op number`, `low < feature <=
    high` or `feature = category`, or a word of a text; none where the model predicts the same for nearly every row.
    `precision` (n,) is the share of perturbed rows keeping to the rule that are predicted alike, of rows drawn for this
    estimate alone; `precision_low` (n,) its lower 95 % confidence bound; `coverage` (n,) the share of the reference, or
    of perturbed texts, that keeps to the rule. `positions` (n) say where in the text each word stands; empty for rules
    about rows. The rest is as in `Attribution`.
    """

    method: str
    features: tuple[str, ...]
    anchors: tuple[tuple[str, ...], ...]
    precision: Matrix
    precision_low: Matrix
    coverage: Matrix
    prediction: Matrix
    target: tuple[Target, ...]
    predictor_calls: int
    predictor_rows: int
    elapsed_s: float
    deadline_reached: bool = False
    positions: tuple[tuple[Span, ...], ...] = ()

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return one JSON-ready object a row, under the names of the public contract."""
        return [
            {
                "method": self.method,
                "features": list(self.features),
                "anchor": list(self.anchors[row]),
                **({"positions": [list(span) for span in self.positions[row]]} if self.positions else {}),
                "precision": float(self.precision[row]),
                "precision_low": float(self.precision_low[row]),
                "coverage": float(self.coverage[row]),
                "prediction": float(self.prediction[row]),
                "target": self.target[row],
                **self._spent(),
            }
            for row in range(len(self.anchors))
        ]


@dataclass(frozen=True, slots=True)
class Counterfactuals(_Computed):
    """For each of n predictions, rows close by that the model decides otherwise.

    `counterfactuals` (n) holds for each row those found, nearest first, as plain values in the order of the features;
    none where the search found none. `changed` (n) names the features that the first of them changes, `distance` (n) is
    its distance: the sum over features of |change| / reference standard deviation, 1 for a changed category; None where
    there is none. `target` (n) is the class that the first one has. The rest is as in `Attribution`.
    """

    method: str
    features: tuple[str, ...]
    counterfactuals: tuple[tuple[tuple[Any, ...], ...], ...]
    changed: tuple[tuple[str, ...], ...]
    distance: tuple[float | None, ...]
    prediction: Matrix
    target: tuple[Target, ...]
    predictor_calls: int
    predictor_rows: int
    elapsed_s: float
    deadline_reached: bool = False

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return one JSON-ready object a row, under the names of the public contract."""
        return [
            {
                "method": self.method,
                "features": list(self.features),
                "counterfactual": [list(found) for found in self.counterfactuals[row]],
                "changed": list(self.changed[row]),
                "distance": self.distance[row],
                "prediction": float(self.prediction[row]),
                "target": self.target[row],
                **self._spent(),
            }
            for row in range(len(self.counterfactuals))
        ]


@dataclass(frozen=True, slots=True)
class Summary(_Computed):
    """What a method says that is neither an attribution, a rule nor a nearby row: prototypes, curves, scores, metrics.

    `entries` are JSON-ready objects under the method's own names, one for each explained row, or a single one about all
    rows together or about the model. The rest is as in `Attribution`.
    """

    method: str
    entries: tuple[Mapping[str, Any], ...]
    predictor_calls: int
    predictor_rows: int
    elapsed_s: float
    deadline_reached: bool = False

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the entries as JSON-ready objects, each with what was spent on all of them."""
        return [
            {
                "method": self.method,
                **entry,
                **self._spent(),
            }
            for entry in self.entries
        ]


@dataclass(frozen=True, slots=True, repr=False)
class LoggedExplanation(Shown):
    """The explanation of one row in a payload log: `entry` as the native reply had it. It reads as one sentence."""

    entry: Mapping[str, Any]

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the entry alone."""
        return [dict(self.entry)]

    def __repr__(self) -> str:
        return told(self.entry)


Explanation = Attribution | WordAttributions | Anchors | Counterfactuals | Summary
"""Whatever an explainer says."""
