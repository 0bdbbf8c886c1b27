"""The shap library's explainers, of any predictor or of trees at hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from inferwatch.errors import InvalidOption, MissingExtra
from inferwatch.explanation import Attribution, Target
from inferwatch.rows import Matrix
from inferwatch_explainers.adapters.setting import Adapter, Count, Option, Setting
from inferwatch_explainers.arguments import checked_rows
from inferwatch_explainers.model_target import attributed, chosen_outputs
from inferwatch_explainers.readout import Readout, checked_outputs


class ShapOfPredictor:
    """Explains any predictor by `shap.PermutationExplainer` or `shap.ExactExplainer`, over the background."""

    def __init__(self, method: str, make: Callable[[Any, Any], Any], setting: Setting) -> None:
        self.method = method
        self._setting = setting
        self._make = make
        self._shap = _library(method)

    def explain(self, rows: Matrix, /, *, target: Target = None) -> Attribution:
        """Return the attribution of each row (n, d), for its largest output or own label unless `target` names one.

        Raises `InvalidRows` for another width or values that are not finite, and `InvalidOption` for a target that the
        predictor lacks.
        """
        started = time.monotonic()
        rows = checked_rows(rows, self._setting.background.shape[1])
        outputs = checked_outputs(self._setting.predict(rows), len(rows))
        readout = self._setting.readout(outputs, target)
        explained = [self._one(rows[place : place + 1], readout, place) for place in range(len(rows))]
        values = np.concatenate([each.values for each in explained])
        base = np.concatenate([np.atleast_1d(each.base_values) for each in explained])
        exact = self.method == "shap.Exact"
        return _attribution(self, values, base, readout.read(outputs), readout.targets, exact, started)

    def _one(self, row: Matrix, readout: Readout, place: int) -> Any:  # noqa: ANN401 - shap's own explanation
        one = Readout(readout.targets[place : place + 1], readout.labels)

        def ask(rows: Matrix) -> Matrix:
            outputs = checked_outputs(self._setting.predict(np.asarray(rows, dtype=np.float64)), len(rows))
            return np.asarray(one.read(outputs[None])[0])

        masker = self._shap.maskers.Independent(self._setting.background, max_samples=len(self._setting.background))
        arguments = dict(self._setting.options)
        return self._make(self._shap, (ask, masker))(row, silent=True, **arguments)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features."""
        return self._setting.schema.names


class ShapOfTrees:
    """Explains a model of trees at hand by `shap.TreeExplainer`, interventional over the background."""

    method = "shap.Tree"

    def __init__(self, setting: Setting) -> None:
        shap = _library(self.method)
        if setting.estimator is None:
            raise InvalidOption("shap.Tree explains a model at hand; none is configured as its `artifact`")
        self.features = setting.schema.names
        try:
            self._explainer = shap.TreeExplainer(
                setting.estimator, setting.background, model_output=setting.options["model_output"]
            )
        except Exception as fault:
            raise InvalidOption(f"shap.Tree cannot explain this {type(setting.estimator).__name__}: {fault}") from fault

    def explain(self, rows: Matrix, /, *, target: Target = None) -> Attribution:
        """Return the attribution of each row (n, d), for its largest output unless `target` is the index of another.

        Raises `InvalidRows` for another width or values that are not finite, and `InvalidOption` for a target that the
        model lacks.
        """
        started = time.monotonic()
        rows = checked_rows(rows, len(self.features))
        explained = self._explainer(rows)
        values = explained.values if explained.values.ndim == 3 else explained.values[:, :, None]
        base = np.asarray(explained.base_values).reshape(len(rows), -1)
        outputs = base + values.sum(axis=1)
        chosen, targets = chosen_outputs(outputs, target)
        each = np.arange(len(rows))
        return _attribution(
            self, values[each, :, chosen], base[each, chosen], outputs[each, chosen], targets, True, started
        )


def _attribution(
    explainer: ShapOfPredictor | ShapOfTrees,
    values: Matrix,
    base: Matrix,
    prediction: Matrix,
    targets: tuple[Target, ...],
    exact: bool,
    started: float,
) -> Attribution:
    elapsed_s = time.monotonic() - started
    return attributed(
        explainer.method, explainer.features, values, base, prediction, targets, exact=exact, elapsed_s=elapsed_s
    )


def _library(method: str) -> Any:  # noqa: ANN401 - shap has no types
    try:
        import shap
    except ImportError as fault:
        raise MissingExtra(method, "shap") from fault
    return shap


@dataclass(frozen=True, slots=True)
class _OfPredictor:
    make: Callable[[Any, Any], Any]
    options: Mapping[str, Option]


_OF_PREDICTORS: Mapping[str, _OfPredictor] = {
    "shap.Permutation": _OfPredictor(
        lambda shap, given: shap.PermutationExplainer(*given, seed=0), {"max_evals": (Count, 500)}
    ),
    "shap.Exact": _OfPredictor(lambda shap, given: shap.ExactExplainer(*given), {"max_evals": (Count, 100_000)}),
}


def _adapter(method: str, of: _OfPredictor) -> Adapter:
    return Adapter(lambda setting: ShapOfPredictor(method, of.make, setting), of.options)


ADAPTERS: Mapping[str, Adapter] = {
    "shap.Tree": Adapter(ShapOfTrees, {"model_output": (Literal["raw", "probability"], "raw")}, "trees"),
    **{method: _adapter(method, of) for method, of in _OF_PREDICTORS.items()},
}
