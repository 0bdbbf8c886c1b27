"""A model artefact: the model itself as a file, read into this process, in place of calls to its server.

A pickle or joblib file can run any code as it is read, so one is read only where the configuration trusts it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption, MissingExtra, PredictorError
from inferwatch.protocols import Predict
from inferwatch.rows import Feature, Matrix, Schema
from inferwatch_explainers import onnx_model, torch_model, tree_file
from inferwatch_explainers.model_target import model_table

_PICKLES = (".pkl", ".pickle", ".joblib")
_SKOPS = ".skops"
_NEAR = 1e-5
SUFFIXES = (*_PICKLES, _SKOPS, *tree_file.SUFFIXES, *onnx_model.SUFFIXES, *torch_model.SUFFIXES)


def check_artifact(path: Path, *, trust_pickle: bool) -> None:
    """Raise `InvalidOption` for a file that is not there, of another kind, or a pickle that nobody trusts."""
    if path.suffix not in SUFFIXES:
        raise InvalidOption(f"{path} is no artefact that can be read; known endings are {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise InvalidOption(f"there is no file {path}")
    pickled = path.suffix in _PICKLES or (path.suffix in torch_model.SUFFIXES and torch_model.is_pickle(path))
    if pickled and not trust_pickle:
        raise InvalidOption(
            f"{path} is a pickle, and reading one can run any code that is in it; if you trust it, say"
            " `trust_pickle: true` beside it"
        )


class Artifact:
    """A model from a file, asked about rows as the schema encodes them.

    `estimator` is what the file holds: scikit-learn's, a `TreeModel` of XGBoost or LightGBM, or a `TorchModel` or an
    `OnnxModel`, whose inputs are of `input_shape`. Categories that are numbers as text are numbers to the model. Raises
    `InvalidOption` where the file cannot be read or holds no model that fits, `MissingExtra` without the library that
    reads it.
    """

    def __init__(
        self, path: Path, schema: Schema, *, trust_pickle: bool = False, input_shape: tuple[int, ...] = ()
    ) -> None:
        check_artifact(path, trust_pickle=trust_pickle)
        self.schema = schema
        if path.suffix in torch_model.SUFFIXES:
            self.estimator: Any = torch_model.TorchModel(path, input_shape, len(schema.features))
        elif path.suffix in onnx_model.SUFFIXES:
            self.estimator = onnx_model.OnnxModel(path, schema.names, input_shape)
        elif path.suffix in tree_file.SUFFIXES:
            self.estimator = tree_file.read_trees(path)
            _check_order(path, self.estimator.names, schema.names)
        elif path.suffix == _SKOPS:
            self.estimator = _read_skops(path, trust_pickle=trust_pickle)
        else:
            self.estimator = _read(path)
        if not hasattr(self.estimator, "predict"):
            raise InvalidOption(f"{path} holds a {type(self.estimator).__name__}, which is no model that predicts")
        self._numbers = [_numbers(feature) for feature in schema.features]
        expected = getattr(self.estimator, "n_features_in_", len(schema.features))
        if expected != len(schema.features):
            raise InvalidOption(f"{path} takes {expected} features, the reference has {len(schema.features)}")

    def inputs(self, rows: Matrix) -> Matrix:
        """Return rows (r, d) as the numbers the model takes."""
        inputs = rows.copy()
        for place, numbers in enumerate(self._numbers):
            if numbers is not None:
                inputs[:, place] = numbers[rows[:, place].astype(np.int64)]
        return inputs

    def outputs(self, rows: Matrix) -> NDArray[Any]:
        """Return what the model says of rows (r, d): probabilities (r, k) where it has them, else its outputs."""
        return self.ask("predict_proba" if hasattr(self.estimator, "predict_proba") else "predict", rows)

    def answering(self, rows: Matrix, answered: NDArray[Any]) -> Predict:
        """Return the function of rows that gives what a server `answered` about these rows, asked of the model here.

        A server may answer probabilities, all of them or the last one, the decision function, or labels. Raises
        `PredictorError` where it is none of those that the model gives.
        """
        for name in ("predict_proba", "predict", "decision_function"):
            if not hasattr(self.estimator, name):
                continue
            for read in (_whole, _last):
                predict = _Asked(self, name, read)
                if _same(predict(rows), answered):
                    return predict
        raise PredictorError("the artefact answers otherwise than the predictor, so it is another model")

    def ask(self, name: str, rows: Matrix) -> NDArray[Any]:
        """Return what a method of the model says of rows (r, d)."""
        return np.asarray(getattr(self.estimator, name)(self._table(rows)))

    def _table(self, rows: Matrix) -> Any:  # noqa: ANN401 - an array, or a table where the model knows names
        return model_table(self.estimator, self.inputs(rows))


@dataclass(frozen=True, slots=True)
class _Asked:
    artifact: Artifact
    method: str
    read: Callable[[NDArray[Any]], NDArray[Any]]

    def __call__(self, rows: Matrix) -> NDArray[Any]:
        return self.read(self.artifact.ask(self.method, rows))


def _whole(outputs: NDArray[Any]) -> NDArray[Any]:
    return outputs


def _last(outputs: NDArray[Any]) -> NDArray[Any]:
    return outputs[:, -1] if outputs.ndim == 2 else outputs


def _check_order(path: Path, names: tuple[str, ...], expected: tuple[str, ...]) -> None:
    if names != expected and set(names) == set(expected):
        raise InvalidOption(
            f"{path} takes features in the order {', '.join(names)}, the reference {', '.join(expected)}"
        )


def _read(path: Path) -> Any:  # noqa: ANN401 - any object
    try:
        import joblib
    except ImportError as fault:
        raise MissingExtra(f"the artefact {path}", "detect") from fault
    try:
        return joblib.load(path)
    except Exception as fault:
        raise InvalidOption(f"{path} cannot be read: {type(fault).__name__}: {fault}") from fault


def _read_skops(path: Path, *, trust_pickle: bool) -> Any:  # noqa: ANN401 - any object
    try:
        from skops import io
    except ImportError as fault:
        raise MissingExtra(f"the artefact {path}", "skops") from fault
    try:
        unknown = io.get_untrusted_types(file=path)
        if unknown and not trust_pickle:
            raise InvalidOption(
                f"{path} holds types that skops does not know to be harmless ({', '.join(sorted(unknown)[:8])}); if you"
                " trust it, say `trust_pickle: true` beside it"
            )
        return io.load(path, trusted=unknown)
    except InvalidOption:
        raise
    except Exception as fault:
        raise InvalidOption(f"{path} cannot be read: {type(fault).__name__}: {fault}") from fault


def _numbers(feature: Feature) -> NDArray[np.float64] | None:
    if feature.kind != "categorical":
        return None
    try:
        return np.array([float({"true": 1, "false": 0}.get(text, text)) for text in feature.categories])
    except ValueError as fault:
        raise InvalidOption(
            f"{feature.name} has categories that are no numbers, as an artefact's inputs have to be"
        ) from fault


def _same(outputs: NDArray[Any], answered: NDArray[Any]) -> bool:
    if outputs.shape != answered.shape:
        return False
    if outputs.dtype.kind in "fiub" and answered.dtype.kind in "fiub":
        near = _NEAR * float(np.abs(answered).max(initial=0.0))  # of a sum of float32, an output near 0 is as far off
        return bool(np.allclose(outputs, answered, rtol=_NEAR, atol=near))
    return [str(cell) for cell in outputs.tolist()] == [str(cell) for cell in answered.tolist()]
