"""Bodies that hold nothing but numbers, the usual ones, straight into one matrix, or into arrays where rows are wide.

simdjson finds the structure of a body in one pass and copies an array of numbers into a buffer, nested or not, so that
no Python object is made a number: a tenth of the time of a general parser. What it reads is what `v1` and `v2` read,
to the bit; a body in which it might not be (another type, a number of 2^53 or more, lists of unequal length, a field
given twice, one that does not belong) is left to them. So is every body where there is no simdjson.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inferwatch.events import Role
from inferwatch.rows import Block, Grid, Matrix, Rows
from inferwatch.wire.columns import MAX_COLUMNS, joined, positions
from inferwatch.wire.number_text import Array, Parser
from inferwatch.wire.numbers import EXACT, MAX_RANK, WHOLE, count_of, endings, shape
from inferwatch.wire.tensors import Head, columns

_SMALL_BYTES: Final = 4096
_V1: Final = {
    Role.REQUEST: ("instances", "instances[{}]", "instances[0]"),
    Role.RESPONSE: ("predictions", "prediction_{}", "prediction"),
}
_BESIDE: Final = {Role.REQUEST: frozenset({"instances", "signature_name"}), Role.RESPONSE: frozenset({"predictions"})}
_V2: Final = {Role.REQUEST: "inputs", Role.RESPONSE: "outputs"}
_V2_FIELDS: Final = frozenset({"model_name", "model_version", "id", "parameters", "inputs", "outputs"})
_TENSOR_FIELDS: Final = frozenset({"name", "shape", "datatype", "data", "parameters"})
_INTEGER: Final = frozenset({"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"})
_NUMBERS: Final = _INTEGER | {"FP16", "FP32", "FP64"}


def numeric(data: bytes, role: Role) -> tuple[str, Rows] | None:
    """Return the protocol and the rows of a V1 or V2 body of numbers; None for any other body."""
    if Parser is None or data[:1] != b"{" or data[-1:] not in (b"}", b"\n"):  # binary tensors end otherwise
        return None
    try:
        body: Any = Parser().parse(data)
        fields = list(body.keys())
        if _V1[role][0] in fields:
            rows = _instances(data, body[_V1[role][0]], role) if _are(fields, _BESIDE[role]) else None
            return None if rows is None else ("v1", rows)
        if _V2[role] in fields and _are(fields, _V2_FIELDS):
            rows = _tensors(body[_V2[role]], _brackets(data))
            return None if rows is None else ("v2", rows)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError):  # of simdjson, for other bodies
        pass
    return None


def _brackets(data: bytes) -> int:
    """How many lists the body has, if there is no bracket in a text."""
    return data.count(b"[") if len(data) < _SMALL_BYTES else count_of(b"[", data)


def _are(fields: Iterable[str], allowed: frozenset[str]) -> bool:
    names = tuple(fields)
    return allowed.issuperset(names) and len(set(names)) == len(names)


def _instances(data: bytes, cells: Any, role: Role) -> Rows | None:  # noqa: ANN401 - any JSON
    first, count = cells[0], len(cells)
    nested = isinstance(first, Array)
    width = len(first) if nested else 1
    if nested and (width > MAX_COLUMNS or isinstance(first[0], Array)):
        return _array(data, cells, role)
    if not nested and type(first) not in (int, float):
        return None
    if _brackets(data) != 1 + nested * count or (nested and set(map(len, cells)) != {width}):
        return None
    matrix = _matrix(cells, count, width)
    if matrix is None:
        return None
    _, pattern, only = _V1[role]
    names = positions(pattern, width) if width > 1 else (only,)
    whole = _whole(data, cells, matrix.shape) if nested else (_integral(cells),)
    return Rows(Grid(names, matrix, whole), count, role is Role.RESPONSE)


def _array(data: bytes, cells: Any, role: Role) -> Rows | None:  # noqa: ANN401 - any JSON
    """Lists in lists of one shape, as a tensor."""
    start = data.find(b"[")
    sizes = shape(data, start) if data.rfind(b'"') < start else None  # a text may hold what looks like lists
    matrix = None if sizes is None else _matrix(cells, sizes[0], prod(sizes[1:]))
    if sizes is None or matrix is None:
        return None
    name, pattern, only = _V1[role]
    head = Head(name if role is Role.REQUEST else only, "", sizes)
    return _spread(head, matrix, _integral(cells), pattern, only, named=role is Role.RESPONSE)


def _tensors(tensors: Any, brackets: int) -> Rows | None:  # noqa: ANN401 - any JSON
    parts = [_tensor(tensor) for tensor in tensors]
    rows = [part[0] for part in parts if part is not None]
    names = [part[2] for part in parts if part is not None]
    if not rows or len(rows) < len(parts) or len(set(names)) < len(names):
        return None
    if brackets != 1 + sum(part[1] for part in parts if part is not None):
        return None
    return joined(rows)


def _tensor(tensor: Any) -> tuple[Rows, int, str] | None:  # noqa: ANN401 - any JSON
    """The columns of a tensor, how many lists it is to have, and its name."""
    if not _are(tensor.keys(), _TENSOR_FIELDS):
        return None
    name, sizes, datatype, cells = tensor["name"], tensor["shape"].as_list(), tensor["datatype"], tensor["data"]
    if not isinstance(name, str) or datatype not in _NUMBERS:
        return None
    if not 0 < len(sizes) <= MAX_RANK or any(type(size) is not int or size <= 0 for size in sizes):
        return None
    count, width = sizes[0], prod(sizes[1:])
    nested = len(cells) != count * width or isinstance(cells[0], Array)
    if nested and (len(sizes) != 2 or len(cells) != count or set(map(len, cells)) != {width}):
        return None
    matrix = _matrix(cells, count, width)
    if matrix is None:
        return None
    is_whole = datatype in _INTEGER and _integral(cells)
    rows = _spread(Head(name, datatype, tuple(sizes)), matrix, is_whole, f"{name}[{{}}]", name)
    return rows, 2 + nested * count, name


def _spread(head: Head, matrix: Matrix, is_whole: bool, pattern: str, only: str, *, named: bool = True) -> Rows:
    """The matrix of a tensor's rows as a grid; as one column of arrays where it is too wide for that."""
    count, width = matrix.shape
    if width > MAX_COLUMNS:
        values = matrix.astype(np.int64) if is_whole else matrix
        return Rows(columns(head, values.ravel(), whole=only).columns, count, named)
    names = positions(pattern, width) if width > 1 else (only,)
    blocks = (Block(head.name, 0, head.shape[1:]),) if width > 1 else ()
    return Rows(Grid(names, matrix, (is_whole,) * width), count, named, blocks)


def _matrix(cells: Any, count: int, width: int) -> Matrix | None:  # noqa: ANN401 - any JSON
    values: NDArray[np.float64] = np.frombuffer(cells.as_buffer(of_type="d"), np.float64)
    is_exact = np.vdot(values, values) < EXACT**2  # then each of them is below 2^53; unlike `dot`, it may overflow
    return values.reshape(count, width) if is_exact and len(values) == count * width else None


def _whole(data: bytes, cells: Any, sizes: tuple[int, ...]) -> tuple[bool, ...]:  # noqa: ANN401 - any JSON
    """Which columns have whole numbers only, as they are written. All brackets of the body are those of the rows."""
    first = set(map(type, cells[0].as_list()))
    if int not in first or (float not in first and _integral(cells)):
        return (int in first,) * sizes[1]
    written = endings(data[data.index(b"[") :])
    if written is None:
        return (False,) * sizes[1]
    return tuple((written[: sizes[0] * sizes[1]].reshape(sizes) == WHOLE).all(axis=0).tolist())


def _integral(cells: Any) -> bool:  # noqa: ANN401 - any JSON
    try:
        cells.as_buffer(of_type="i")
    except TypeError:
        return False
    return True
