"""Attacks of the Adversarial Robustness Toolbox: the smallest change found that makes the model decide otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption, MissingExtra
from inferwatch.explanation import Summary, Target
from inferwatch.rows import Matrix
from inferwatch_explainers.adapters.setting import Adapter, Count, Option, Setting, Share
from inferwatch_explainers.arguments import checked_rows
from inferwatch_explainers.classes import check_classes, classes
from inferwatch_explainers.readout import checked_outputs


@dataclass(frozen=True, slots=True)
class _Attack:
    make: Callable[[Any, Any, Mapping[str, Any]], Any]
    options: Mapping[str, Option]
    images: bool


class Art:
    """Attacks a classifier, asking it for outputs alone, and reports how far it had to go: its robustness there.

    Inputs stay within the range that the reference and the explained rows span: of each feature, or of all pixels. An
    entry a row: `adversarial_example` in the shape of the input, what is predicted for it and for the row
    (`adversarial_prediction`, `prediction`), their Euclidean distance `l2_error`, and `success`.
    """

    def __init__(self, name: str, setting: Setting) -> None:
        self.method = f"art.{name}"
        self._attack = _ATTACKS[name]
        self._setting = setting
        if self._attack.images and len(setting.shape) != 3:
            raise InvalidOption(f"{self.method} is for images; give their `input_shape`: channels, height, width")
        try:
            import art.attacks.evasion
            import art.estimators.classification
        except ImportError as fault:
            raise MissingExtra(self.method, "art") from fault
        self._attacks = art.attacks.evasion
        self._classifier = art.estimators.classification.BlackBoxClassifierNeuralNetwork

    def explain(self, rows: Matrix, /, *, target: Target = None) -> Summary:
        """Return an entry for each row (n, d).

        Raises `InvalidRows` for another width or values that are not finite, and `InvalidOption` for a predictor of no
        classes and for a target, which these attacks do not take.
        """
        started = time.monotonic()
        if target is not None:
            raise InvalidOption(f"{self.method} takes no target: any other decision will do")
        rows = checked_rows(rows, self._setting.background.shape[1])
        before = self._ask(rows)
        check_classes(before)
        found = self._attacked(rows, before)
        after = self._ask(found)
        flipped = classes(after) != classes(before)
        entries = tuple(
            {
                "adversarial_example": found[place].reshape(self._setting.shape).tolist(),
                "adversarial_prediction": np.asarray(after[place]).tolist(),
                "prediction": np.asarray(before[place]).tolist(),
                "l2_error": float(np.linalg.norm(found[place] - rows[place])),
                "success": bool(flipped[place]),
            }
            for place in range(len(rows))
        )
        return Summary(self.method, entries, 0, 0, time.monotonic() - started)

    def _ask(self, rows: Matrix) -> NDArray[Any]:
        return checked_outputs(self._setting.predict(rows), len(rows))

    def _attacked(self, rows: Matrix, before: NDArray[Any]) -> Matrix:
        """Return the rows that the attack came to, (n, d)."""
        low, span = self._range(rows)
        known = sorted(set(classes(self._ask(self._setting.background)).tolist()) | set(classes(before).tolist()))

        def predict(scaled: NDArray[Any]) -> NDArray[np.float32]:
            return _probabilities(self._ask(low + span * scaled.reshape(len(scaled), -1).astype(np.float64)), known)

        count = before.shape[1] if before.ndim == 2 else max(2, len(known))
        classifier = self._classifier(predict, self._setting.shape, count, clip_values=(0.0, 1.0))
        inputs = ((rows - low) / np.where(span > 0, span, 1.0)).astype(np.float32)
        attack = self._attack.make(self._attacks, classifier, self._setting.options)
        found = attack.generate(inputs.reshape(-1, *self._setting.shape))
        return np.asarray(low + span * np.asarray(found).reshape(len(rows), -1).astype(np.float64))

    def _range(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        """Return the least value and the span that inputs stay within: (d,) of each feature, all alike for images."""
        seen = np.concatenate([self._setting.reference, rows])
        low, high = seen.min(axis=0), seen.max(axis=0)
        if len(self._setting.shape) > 1:
            low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
        return low, high - low


def _probabilities(outputs: NDArray[Any], known: list[Any]) -> NDArray[np.float32]:
    """Return outputs as (r, k): several as they are, one number as that of class 1, labels as ones and zeros.

    A label that was never seen before counts as the last one known; what the attack finds is asked again in the end.
    """
    if outputs.ndim == 2:
        return outputs.astype(np.float32)
    if outputs.dtype.kind == "f":
        return np.stack([1 - outputs, outputs], axis=1).astype(np.float32)
    result = np.zeros((len(outputs), max(2, len(known))), dtype=np.float32)
    places = {label: place for place, label in enumerate(known)}
    result[np.arange(len(outputs)), [places.get(label, len(known) - 1) for label in outputs.tolist()]] = 1
    return result


_ATTACKS: Mapping[str, _Attack] = {
    "SquareAttack": _Attack(
        lambda attacks, model, given: attacks.SquareAttack(model, verbose=False, **given),
        {"eps": (Share, 0.3), "max_iter": (Count, 100), "nb_restarts": (Count, 1)},
        images=True,
    ),
    "HopSkipJump": _Attack(
        lambda attacks, model, given: attacks.HopSkipJump(model, verbose=False, **given),
        {"max_iter": (Count, 10), "max_eval": (Count, 1000), "init_eval": (Count, 50)},
        images=False,
    ),
}


def _adapter(name: str, attack: _Attack) -> Adapter:
    return Adapter(lambda setting: Art(name, setting), attack.options)


ADAPTERS: Mapping[str, Adapter] = {f"art.{name}": _adapter(name, attack) for name, attack in _ATTACKS.items()}
