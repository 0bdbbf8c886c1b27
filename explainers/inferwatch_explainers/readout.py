"""Readout: which number of a predictor's output an explanation is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption, PredictorError
from inferwatch.explanation import Target
from inferwatch.rows import Matrix

_SHOWN = 8
_NO_NUMBER = "the predictor answered null, NaN or infinity"


@dataclass(frozen=True, slots=True)
class Readout:
    """Turns outputs into one number each, by the output or label that each explained row is explained for.

    A float a row is a value. Integers, booleans and texts, one a row, are labels: the number is 1 where the output is
    the target and 0 where it is not. Of several outputs a row (n, k) the target is an index.
    """

    targets: tuple[Target, ...]
    labels: bool

    @classmethod
    def of(cls, outputs: NDArray[Any], target: Target = None, seen: NDArray[Any] | None = None) -> Readout:
        """Return the readout for explained rows with these outputs (n,) or (n, k).

        Without a target, each row is explained for its own label, or its largest output. Raises `InvalidOption` for a
        target that the predictor has no output for, and for a label that is none of these nor, where they are given, of
        those `seen` (r,) of other rows.
        """
        if outputs.ndim == 2:
            return cls(_indices(outputs, target), labels=False)
        if outputs.dtype.kind == "f":
            if target is not None and (target is True or target != 0):
                raise InvalidOption(f"target is {target!r}, but the predictor has one output, a number, and takes none")
            return cls((None,) * len(outputs), labels=False)
        if target is None:
            return cls(tuple(outputs.tolist()), labels=True)
        return cls((_label(outputs, target, seen),) * len(outputs), labels=True)

    def read(self, outputs: NDArray[Any]) -> Matrix:
        """Return (n, ...) numbers from (n, ...) outputs, or (n, ..., k) for several, row i by its own target."""
        if self.labels:
            wanted = np.array(self.targets, dtype=object).reshape(-1, *[1] * (outputs.ndim - 1))
            if outputs.dtype.kind in "iub":
                wanted = wanted.astype(outputs.dtype)
            return np.asarray(outputs == wanted, dtype=np.float64)
        if self.targets[0] is None:
            return np.asarray(outputs, dtype=np.float64)
        return np.stack([row[..., index] for row, index in zip(outputs, self.targets, strict=True)]).astype(np.float64)


def checked_outputs(outputs: object, count: int) -> NDArray[Any]:
    """Return a predictor's outputs as (count,) or (count, k) with k > 1, floats, or integers, booleans or texts.

    Raises `PredictorError` for another number of rows, another shape, a missing value, NaN or infinity.
    """
    array = np.asarray(outputs)
    if array.ndim not in (1, 2) or len(array) != count:
        raise PredictorError(f"the predictor was asked for {count} rows and answered outputs of shape {array.shape}")
    if array.ndim == 2:
        array = array.astype(np.float64) if array.dtype.kind in "iub" and array.shape[1] > 1 else array
        array = array[:, 0] if array.shape[1] == 1 else array
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise PredictorError(_NO_NUMBER)
        return array
    if array.ndim == 2:
        raise PredictorError(f"the predictor answered several outputs a row that are no numbers ({array.dtype})")
    if array.dtype.kind in "OUS":
        return _texts(array)
    return array


def _texts(array: NDArray[Any]) -> NDArray[Any]:
    cells = array.tolist()
    if any(not isinstance(cell, (str, bytes, bool, int)) for cell in cells):
        strange = next(cell for cell in cells if not isinstance(cell, (str, bytes, bool, int)))
        if strange is None:
            raise PredictorError(_NO_NUMBER)
        raise PredictorError(f"the predictor answered {str(strange)[:64]!r}, which is neither a number nor a label")
    result = np.empty(len(cells), dtype=object)
    result[:] = [cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell for cell in cells]
    return result


def _indices(outputs: NDArray[Any], target: Target) -> tuple[int, ...]:
    count = outputs.shape[1]
    if target is None:
        return tuple(outputs.argmax(axis=1).tolist())
    if isinstance(target, bool) or not isinstance(target, int) or not 0 <= target < count:
        raise InvalidOption(f"target is {target!r}; the predictor has {count} outputs, 0 to {count - 1}")
    return (target,) * len(outputs)


def _label(outputs: NDArray[Any], target: Target, seen: NDArray[Any] | None) -> Target:
    kind = type(outputs.tolist()[0])
    if type(target) is not kind:
        raise InvalidOption(f"target is {target!r}, but the predictor's labels are of type {kind.__name__}")
    labels = [target] if seen is None else list(dict.fromkeys([*outputs.tolist(), *seen.tolist()]))
    if target not in labels:
        known = ", ".join(map(repr, labels[:_SHOWN])) + (", ..." if len(labels) > _SHOWN else "")
        raise InvalidOption(f"target is {target!r}, a label that the predictor gave no row; it gave {known}")
    return target
