"""ONNX models from files, run by ONNX Runtime on the processor."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption, MissingExtra
from inferwatch.rows import Matrix

SUFFIXES = (".onnx",)

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


class OnnxModel:
    """An ONNX model, asked about flattened inputs.

    The model takes one tensor of (r, *input_shape) numbers, or one tensor (r, 1) a feature, by their names else in
    their order. What it says is its labels and scores: the first output of each kind; a score by label
    (`seq(map(...))`, as classifiers of scikit-learn are converted) is a column. Where it has both, `predict` gives the
    labels and `predict_proba` the scores. Reading a file runs no code of it. Raises `InvalidOption` where the file
    cannot be read or takes other inputs, `MissingExtra` without ONNX Runtime.
    """

    def __init__(self, path: Path, names: tuple[str, ...], input_shape: tuple[int, ...]) -> None:
        width = len(names)
        shape = input_shape or (width,)
        if math.prod(shape) != width:
            raise InvalidOption(f"input_shape {list(input_shape)} does not hold the {width} features of the reference")
        self._session, self._faults = _session(path)
        self._shape = shape
        self._inputs = {each.name: _TYPES.get(each.type) for each in self._session.get_inputs()}
        if unfit := [each for each in self._session.get_inputs() if each.type not in _TYPES]:
            raise InvalidOption(f"{path} takes {unfit[0].type} as {unfit[0].name}; an artefact's inputs are numbers")
        if len(self._inputs) not in (1, width):
            raise InvalidOption(f"{path} takes {len(self._inputs)} inputs, the reference has {width} features")
        by_name = set(self._inputs) == set(names)
        self._places = [names.index(name) if by_name else place for place, name in enumerate(self._inputs)]
        self.n_features_in_ = width
        kinds = {each.name: _is_label(each.type) for each in self._session.get_outputs()}
        self._labels = next((name for name, label in kinds.items() if label), None)
        self._scores = next((name for name, label in kinds.items() if not label), None)
        if self._labels is not None and self._scores is not None:
            self.predict_proba = self._scored
        try:
            self.predict(np.zeros((2, width)))
        except self._faults as fault:
            reason = str(fault).splitlines()[0]
            raise InvalidOption(f"{path} takes other inputs than rows of {width} features: {reason}") from fault

    def predict(self, rows: Matrix) -> NDArray[Any]:
        """Return the labels (r,) of rows (r, d), or the scores of a model that has no labels: (r,) or (r, k)."""
        if self._labels is None:
            return self._scored(rows)
        return np.asarray(self._run(self._labels, rows)).reshape(len(rows))

    def _scored(self, rows: Matrix) -> NDArray[Any]:
        scores = self._run(str(self._scores), rows)
        if isinstance(scores, list):
            scores = [list(each.values()) for each in scores]
        scores = np.asarray(scores, dtype=np.float64)
        return scores[:, 0] if scores.ndim == 2 and scores.shape[1] == 1 else scores

    def _run(self, output: str, rows: Matrix) -> Any:  # noqa: ANN401 - an array, or a list of mappings
        if len(self._inputs) == 1:
            [(name, kind)] = self._inputs.items()
            given = {name: rows.reshape(-1, *self._shape).astype(kind)}
        else:
            columns = zip(self._inputs.items(), self._places, strict=True)
            given = {name: rows[:, [place]].astype(kind) for (name, kind), place in columns}
        return self._session.run([output], given)[0]


def _is_label(kind: str) -> bool:
    return kind in ("tensor(int64)", "tensor(int32)", "tensor(string)", "tensor(bool)")


def _session(path: Path) -> tuple[Any, tuple[type[Exception], ...]]:
    """Return a session of the model in a file, and what it raises."""
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError as fault:
        raise MissingExtra(f"the artefact {path}", "onnx") from fault
    faults = (state.Fail, state.InvalidArgument, state.RuntimeException, state.NotImplemented, ValueError, TypeError)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised, and said once
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]), faults
    except Exception as fault:
        raise InvalidOption(f"{path} cannot be read: {type(fault).__name__}: {str(fault).splitlines()[0]}") from fault
