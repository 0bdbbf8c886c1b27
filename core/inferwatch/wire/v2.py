"""The V2 (Open Inference) protocol in JSON: named tensors, the first dimension being the rows.

A tensor of shape (n,) or (n, 1) is one column of the tensor's name; (n, d) and higher ranks are columns `name[i]` in
row-major order. Data may be flat or nested. FP16, FP32, FP64 and BF16 read whole numbers as fractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from inferwatch.errors import UndecodablePayload
from inferwatch.events import Role
from inferwatch.rows import Column, Rows
from inferwatch.wire.columns import MAX_COLUMNS, joined, positions, single, typed

_FIELDS = {Role.REQUEST: "inputs", Role.RESPONSE: "outputs"}
_FLOATING = frozenset({"FP16", "FP32", "FP64", "BF16"})
_DATATYPES = frozenset(
    {"BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BYTES", *_FLOATING}
)


def is_v2(body: Mapping[str, Any], role: Role) -> bool:
    """Return whether the body holds V2 tensors."""
    tensors = body.get(_FIELDS[role])
    if not isinstance(tensors, list):
        return False
    if not tensors:
        return "model_name" in body
    return all(isinstance(tensor, dict) and "shape" in tensor and "datatype" in tensor for tensor in tensors)


def rows(body: Mapping[str, Any], role: Role) -> Rows:
    """Return the tensors as columns. Raises `UndecodablePayload`."""
    tensors = body[_FIELDS[role]]
    names = [name for tensor in tensors if isinstance(name := tensor.get("name"), str)]
    if len(set(names)) < len(names):
        raise UndecodablePayload("two tensors have the same name")
    return joined(map(_tensor, tensors))


def _tensor(tensor: Mapping[str, Any]) -> Rows:
    name, shape, datatype = tensor.get("name", ""), tensor["shape"], tensor["datatype"]
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise UndecodablePayload("a tensor's name and datatype are no strings")
    if datatype not in _DATATYPES:
        raise UndecodablePayload(f"tensor {name[:64]!r} has the unknown datatype {datatype[:16]!r}")
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise UndecodablePayload(f"tensor {name[:64]!r} has a shape that is no list of sizes")
    if "data" not in tensor:
        raise UndecodablePayload(f"tensor {name[:64]!r} has no data in the JSON body")
    cells = _flat(tensor["data"], len(shape))
    count, width = (shape[0] if shape else 1), prod(shape[1:])
    if count * width != len(cells) or (count and not width):
        raise UndecodablePayload(f"tensor {name[:64]!r} has the shape {str(shape)[:64]} and {len(cells)} values")
    return _columns(name, cells, count, width, datatype in _FLOATING)


def _columns(name: str, cells: Sequence[Any], count: int, width: int, floating: bool) -> Rows:
    if width > MAX_COLUMNS:
        return single([cells[start : start + width] for start in range(0, len(cells), width)], name)
    values = typed(cells, floating=floating)
    if width <= 1:
        return Rows((Column(name, values),), count)
    return Rows(tuple(map(Column, positions(f"{name}[{{}}]", width), values.reshape(count, width).T)), count)


def _flat(data: Any, rank: int) -> list[Any]:  # noqa: ANN401 - any JSON
    cells = data if isinstance(data, list) else [data]
    for _ in range(rank - 1):
        if not cells or not all(type(cell) is list for cell in cells):
            break
        cells = [item for cell in cells for item in cell]
    return cells
