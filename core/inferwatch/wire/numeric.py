"""Bodies that hold nothing but numbers, the usual ones, straight into one matrix.

simdjson finds the structure of a body in one pass and copies an array of numbers into a buffer, nested or not, so that
no Python object is made a number: a tenth of the time of a general parser. What it reads is what `v1` and `v2` read,
to the bit; a body in which it might not be (another type, a number of 2^53 or more, lists of unequal length or of
another depth, a field given twice, one that does not belong) is left to them.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inferwatch.events import Role
from inferwatch.rows import Grid, Matrix, Rows
from inferwatch.wire.columns import MAX_COLUMNS, positions

try:
    from simdjson import Array, Parser
except ImportError:  # there is no wheel for every interpreter
    Array = Parser = None

_EXACT: Final = 2.0**53
_SMALL_BYTES: Final = 4096
_MAX_RANK: Final = 8
_V1: Final = {Role.REQUEST: ("instances", "instances[{}]"), Role.RESPONSE: ("predictions", "prediction_{}")}
_V2: Final = {Role.REQUEST: "inputs", Role.RESPONSE: "outputs"}
_V2_FIELDS: Final = frozenset({"model_name", "model_version", "id", "parameters", "inputs", "outputs"})
_TENSOR_FIELDS: Final = frozenset({"name", "shape", "datatype", "data", "parameters"})
_FLOATING: Final = frozenset({"FP16", "FP32", "FP64"})
_INTEGER: Final = frozenset({"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"})


def numeric(data: bytes, role: Role) -> tuple[str, Rows] | None:
    """Return the protocol and the rows of a V1 or V2 body of numbers; None for any other body."""
    if Parser is None or data[:1] != b"{" or data[-1:] not in (b"}", b"\n"):  # binary tensors end otherwise
        return None
    try:
        body: Any = Parser().parse(data)
        fields = list(body.keys())
        if fields == [_V1[role][0]]:
            rows = _instances(body[fields[0]], role, _brackets(data))
            return None if rows is None else ("v1", rows)
        if _V2[role] in fields and _are(fields, _V2_FIELDS):
            rows = _tensors(body[_V2[role]], _brackets(data))
            return None if rows is None else ("v2", rows)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):  # what simdjson raises for other bodies
        pass
    return None


def _brackets(data: bytes) -> int:
    """How many lists the body has, if there is no bracket in a text."""
    if len(data) < _SMALL_BYTES:
        return data.count(b"[")
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("[")))


def _are(fields: Iterable[str], allowed: frozenset[str]) -> bool:
    names = tuple(fields)
    return len(set(names)) == len(names) and allowed.issuperset(names)


def _instances(cells: Any, role: Role, brackets: int) -> Rows | None:  # noqa: ANN401 - any JSON
    count = len(cells)
    name, pattern = _V1[role]
    nested = count > 0 and isinstance(cells[0], Array)
    width = len(cells[0]) if nested else 1
    if not count or not 0 < width <= MAX_COLUMNS or brackets != 1 + nested * count:
        return None
    if nested and set(map(len, cells)) != {width}:
        return None
    matrix = _matrix(cells, count, width)
    if matrix is None:
        return None
    whole = _whole(cells, nested)
    only = f"{name}[0]" if role is Role.REQUEST else "prediction"
    names = positions(pattern, width) if width > 1 else (only,)
    return Rows(Grid(names, matrix, whole), count, named=role is Role.RESPONSE)


def _tensors(tensors: Any, brackets: int) -> Rows | None:  # noqa: ANN401 - any JSON
    parts = [_tensor(tensor) for tensor in tensors]
    grids = [part[0] for part in parts if part is not None]
    names = tuple(name for grid in grids for name in grid.names)
    if not grids or len(grids) < len(parts) or len(set(names)) < len(names):
        return None
    if brackets != 1 + sum(part[1] for part in parts if part is not None) or len({len(g.values) for g in grids}) > 1:
        return None
    if len(grids) == 1:
        return Rows(grids[0], len(grids[0].values))
    whole = tuple(flag for grid in grids for flag in grid.whole)
    return Rows(Grid(names, np.hstack([grid.values for grid in grids]), whole), len(grids[0].values))


def _tensor(tensor: Any) -> tuple[Grid, int] | None:  # noqa: ANN401 - any JSON
    """The columns of a tensor, and how many lists it is to have."""
    if not _are(tensor.keys(), _TENSOR_FIELDS):
        return None
    name, shape, datatype, cells = tensor["name"], tensor["shape"].as_list(), tensor["datatype"], tensor["data"]
    if not 0 < len(shape) <= _MAX_RANK or any(type(size) is not int or size <= 0 for size in shape):
        return None
    count, width = shape[0], prod(shape[1:])
    nested = len(cells) != count * width or isinstance(cells[0], Array)
    if nested and (len(shape) != 2 or len(cells) != count or set(map(len, cells)) != {width}):
        return None
    matrix = _matrix(cells, count, width) if width <= MAX_COLUMNS else None
    if matrix is None or not isinstance(name, str) or datatype not in _FLOATING | _INTEGER:
        return None
    is_whole = datatype in _INTEGER and _integral(cells)
    names = positions(f"{name}[{{}}]", width) if width > 1 else (name,)
    return Grid(names, matrix, (is_whole,) * width), 2 + nested * count


def _matrix(cells: Any, count: int, width: int) -> Matrix | None:  # noqa: ANN401 - any JSON
    values: NDArray[np.float64] = np.frombuffer(cells.as_buffer(of_type="d"), np.float64)
    with np.errstate(over="ignore"):
        is_exact = np.dot(values, values) < _EXACT**2  # then each of them is below 2^53
    return values.reshape(count, width) if is_exact and len(values) == count * width else None


def _whole(cells: Any, nested: bool) -> tuple[bool, ...]:  # noqa: ANN401 - any JSON
    """Which columns have whole numbers only, as they are written."""
    if not nested:
        return (_integral(cells),)
    flags = [type(cell) is int for cell in cells[0].as_list()]
    if not any(flags) or (all(flags) and _integral(cells)):
        return tuple(flags)
    return tuple(flag and all(type(row[place]) is int for row in cells) for place, flag in enumerate(flags))


def _integral(cells: Any) -> bool:  # noqa: ANN401 - any JSON
    try:
        cells.as_buffer(of_type="i")
    except TypeError:
        return False
    return True
