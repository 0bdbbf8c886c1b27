"""Tensors of the V2 protocol as columns, whichever encoding brought them: raw bytes are viewed in place, not copied.

A tensor of shape (n,) or (n, 1) is one column of the tensor's name; (n, d) and higher ranks are columns `name[i]` in
row-major order. Rows wider than `MAX_COLUMNS` stay whole: each cell is then an array of the row's shape.

Raw bytes are little-endian and row-major, as the binary tensor extension and gRPC's raw contents have them; an element
of BYTES is its length in 4 bytes, then so many bytes. BF16 is read as float32, which holds each of its values. Elements
of BYTES are text where all of a tensor are UTF-8, else bytes; the content type `base64` says that they are base64 of
what is meant, which is read then.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inferwatch.cells import objects
from inferwatch.errors import UndecodablePayload
from inferwatch.rows import Block, Column, Rows
from inferwatch.wire.columns import MAX_COLUMNS, NULLABLE, positions, typed
from inferwatch.wire.numbers import MAX_RANK, Numbers

ITEMS: Final[Mapping[str, np.dtype[Any]]] = {
    "BOOL": np.dtype("<u1"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),
}
"""How an element of each datatype but BYTES lies in raw bytes."""

_LENGTH_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Head:
    """What a tensor says of itself beside its values."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    is_base64: bool = False

    @classmethod
    def of(cls, name: object, datatype: object, shape: object, parameters: object = None) -> Head:
        """Return the head that these values of a message state. Raises `UndecodablePayload`."""
        if not isinstance(name, str) or not isinstance(datatype, str):
            raise UndecodablePayload("a tensor's name and datatype are no strings")
        if datatype not in ITEMS and datatype != "BYTES":
            raise UndecodablePayload(f"tensor {name[:64]!r} has the unknown datatype {datatype[:16]!r}")
        shape = shape.as_list() if isinstance(shape, Numbers) else shape
        if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
            raise UndecodablePayload(f"tensor {name[:64]!r} has a shape that is no list of sizes")
        if len(shape) > MAX_RANK:
            raise UndecodablePayload(f"tensor {name[:64]!r} has {len(shape)} dimensions; at most {MAX_RANK} are read")
        content_type = parameters.get("content_type") if isinstance(parameters, dict) else None
        return cls(name, datatype, tuple(shape), datatype == "BYTES" and content_type == "base64")

    @property
    def count(self) -> int:
        """The number of rows."""
        return self.shape[0] if self.shape else 1

    @property
    def width(self) -> int:
        """The number of elements in a row."""
        return prod(self.shape[1:])

    def check(self, size: int) -> None:
        """Raise `UndecodablePayload` unless the shape holds so many elements."""
        if self.count * self.width != size or (self.count and not self.width):
            shown = str(list(self.shape))[:64]
            raise UndecodablePayload(f"tensor {self.name[:64]!r} has the shape {shown} and {size} values")


def columns(head: Head, values: NDArray[Any], pattern: str | None = None, *, whole: str | None = None) -> Rows:
    """Return flat values as columns, views of them. Raises `UndecodablePayload` where the shape is not theirs.

    The pattern, by default `name[{}]`, names the columns; `whole`, by default the head's name, is that of a single one.
    """
    head.check(values.size)
    count, width = head.count, head.width
    whole = head.name if whole is None else whole
    if width <= 1:
        return Rows((Column(whole, values),), count)
    if width > MAX_COLUMNS:
        return Rows((Column(whole, _whole(values, head.shape)),), count)
    names = positions(f"{head.name}[{{}}]" if pattern is None else pattern, width)
    parts = tuple(map(Column, names, values.reshape(count, width).T))
    return Rows(parts, count, blocks=(Block(head.name, 0, head.shape[1:]),))


def array(cells: Sequence[Any]) -> NDArray[Any] | None:
    """Return lists of numbers and nulls (NaN), or of flags, nested to one shape, as one array; None for all else."""
    shape: list[int] = []
    level = cells
    for _ in range(MAX_RANK):
        shape.append(len(level) if not shape else len(level[0]))
        if len(shape) > 1:
            if len(set(map(len, level))) > 1:
                return None
            level = list(chain.from_iterable(level))
        if Numbers in set(map(type, level)):  # beside lists that no array holds
            level = [cell.as_list() if isinstance(cell, Numbers) else cell for cell in level]
        kinds = set(map(type, level))
        if kinds != {list}:
            values = typed(level, floating=type(None) in kinds) if kinds <= NULLABLE or kinds == {bool} else None
            return values.reshape(shape) if values is not None and values.dtype != object else None
    return None


def raw(head: Head, data: memoryview) -> NDArray[Any]:
    """Return the elements that raw bytes hold, flat. O(1) but for BOOL, BF16 and BYTES. Raises `UndecodablePayload`."""
    if head.datatype == "BYTES":
        return objects(contents(head, _elements(data)))
    item = ITEMS[head.datatype]
    if len(data) % item.itemsize:
        raise UndecodablePayload(f"{len(data)} bytes hold no whole number of {head.datatype} values")
    values: NDArray[Any] = np.frombuffer(data, dtype=item)
    if head.datatype == "BOOL":
        return values.astype(np.bool_)
    if head.datatype == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values


def contents(head: Head, elements: Sequence[bytes]) -> Sequence[str] | Sequence[bytes]:
    """Return the elements of BYTES as the bytes that are meant, or as text where all of them are UTF-8."""
    if head.is_base64:
        return [from_base64(element) for element in elements]
    try:
        return [element.decode() for element in elements]
    except UnicodeDecodeError:
        return elements


def from_base64(cell: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return the bytes that a cell encodes; the cell as it is where it is no base64."""
    try:
        return b64decode(cell, validate=True) if isinstance(cell, (str, bytes)) else cell
    except ValueError:
        return cell


def _elements(data: memoryview) -> list[bytes]:
    elements: list[bytes] = []
    position, end = 0, len(data)
    while position < end:
        start = position + _LENGTH_BYTES
        position = start + int.from_bytes(data[position:start], "little")
        if position > end:
            raise UndecodablePayload("an element of BYTES is longer than the bytes that are there")
        elements.append(bytes(data[start:position]))
    return elements


def _whole(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return objects(list(values.reshape(shape)) if values.size else [])
