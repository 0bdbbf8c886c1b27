"""What a predictor replied, as outputs: numbers or labels, one or several a row."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import PredictorError
from inferwatch.events import Role
from inferwatch.rows import Rows
from inferwatch.wire.decode import decode

_VERSION: Final = re.compile(rb'"model_version"\s*:\s*"([^"\\]*)"')
_HEAD_BYTES: Final = 1024


class Reply(NamedTuple):
    """A reply of whatever status; of a gRPC call that failed, the one that HTTP has for its code.

    `version` is the model version that it names.
    """

    status: int
    body: bytes
    retry_after: str | None = None
    version: str | None = None


def version_of(body: bytes) -> str | None:
    """Return the model version that a V2 reply of JSON names, None where it names none among its first members."""
    found = _VERSION.search(body, 0, _HEAD_BYTES)
    return None if found is None else found[1].decode("utf-8", "replace")


def read_outputs(reply: Reply, count: int, model_name: str) -> NDArray[Any]:
    """Return the outputs of a reply about so many rows, (count,) or (count, k). Raises `PredictorError`."""
    if reply.status != 200:
        said = " ".join(reply.body[:200].decode("utf-8", "replace").split())
        raise PredictorError(f"the predictor of {model_name} answered {reply.status}{': ' if said else ''}{said}")
    rows = _rows(reply, model_name)
    if rows.count != count:
        raise PredictorError(f"the predictor of {model_name} was asked for {count} rows and answered {rows.count}")
    return outputs(rows)


def _rows(reply: Reply, name: str) -> Rows:
    if reply.body.lstrip()[:1] == b"<":
        raise PredictorError(f"the predictor of {name} answered a page of HTML or XML in place of predictions")
    decoded = decode(reply.body, Role.RESPONSE)
    if decoded.rows is None:
        reason = decoded.fault or (f"a {decoded.protocol} reply" if reply.body.strip() else "the body is empty")
        raise PredictorError(f"the predictor of {name} answered no predictions: {reason}")
    return decoded.rows


def same_outputs(some: NDArray[Any], others: NDArray[Any]) -> bool:
    """Return whether two answers about the same rows are the same, up to the last digits of numbers as text."""
    if some.shape != others.shape or (some.dtype.kind == "f") != (others.dtype.kind == "f"):
        return False
    if some.dtype.kind == "f":
        return bool(np.allclose(some, others, rtol=1e-6, atol=1e-12))
    return bool(some.tolist() == others.tolist())


def outputs(rows: Rows) -> NDArray[Any]:
    """Return the outputs of a reply, (r,) or (r, k): a single column as it is, of several those that hold floats.

    Where labels and probabilities come together the probabilities are explained, since they say more; several columns
    of integers are numbers too.
    """
    columns = [column.values for column in rows.columns]
    floats = [values for values in columns if values.dtype.kind == "f"]
    chosen = floats or [values for values in columns if values.dtype.kind in "iu"] or columns
    if len(columns) == 1 or len(chosen) == 1:
        return _numbers_if_all(chosen[0])
    return np.stack(chosen, axis=1)


def _numbers_if_all(values: NDArray[Any]) -> NDArray[Any]:
    """Return a column of mixed integers and floats as floats; anything else as it is."""
    if values.dtype.kind != "O":
        return values
    cells = values.tolist()
    if any(isinstance(cell, float) for cell in cells) and all(type(cell) in (int, float) for cell in cells):
        return values.astype(np.float64)
    return values
