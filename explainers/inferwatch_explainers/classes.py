"""Classes out of a predictor's outputs, for explanations of decisions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption


def check_classes(outputs: NDArray[Any]) -> None:
    """Raise `InvalidOption` for outputs (r,) that are numbers beyond [0, 1], and so no probability of a class."""
    if outputs.ndim == 1 and outputs.dtype.kind == "f" and (outputs.min() < 0 or outputs.max() > 1):
        raise InvalidOption("this method explains classes, and the predictor answers numbers beyond [0, 1]")


def classes(outputs: NDArray[Any]) -> NDArray[Any]:
    """Return the class of each row: a label as it is, the index of the largest of several outputs (r, k), or for one
    number, the probability of class 1, 0 or 1 by the threshold 0.5.
    """
    if outputs.ndim == 2:
        return np.asarray(outputs.argmax(axis=1))
    return np.asarray(outputs >= 0.5).astype(np.int64) if outputs.dtype.kind == "f" else outputs
