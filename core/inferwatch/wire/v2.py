"""The V2 (Open Inference) protocol in JSON: named tensors, the first dimension being the rows.

A tensor of shape (n,) or (n, 1) is one column of the tensor's name; (n, d) and higher ranks are columns `name[i]` in
row-major order (`tensors`). Data may be flat or nested. FP16, FP32, FP64 and BF16 read whole numbers as fractions.
BYTES is text as it stands; with the content type `base64`, the bytes that it encodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import UndecodablePayload
from inferwatch.events import Role
from inferwatch.rows import Rows
from inferwatch.wire.columns import joined, typed
from inferwatch.wire.numbers import Numbers
from inferwatch.wire.tensors import Head, columns, from_base64

_FIELDS = {Role.REQUEST: "inputs", Role.RESPONSE: "outputs"}
_FLOATING = frozenset({"FP16", "FP32", "FP64", "BF16"})


def is_v2(body: Mapping[str, Any], role: Role) -> bool:
    """Return whether the body holds V2 tensors."""
    tensors = body.get(_FIELDS[role])
    if not isinstance(tensors, list):
        return False
    if not tensors:
        return "model_name" in body
    return all(isinstance(tensor, dict) and "shape" in tensor and "datatype" in tensor for tensor in tensors)


def tensors(body: Mapping[str, Any], role: Role) -> list[Mapping[str, Any]]:
    """Return the tensors of a V2 body. Raises `UndecodablePayload` where two have the same name."""
    found: list[Mapping[str, Any]] = body[_FIELDS[role]]
    names = [name for tensor in found if isinstance(name := tensor.get("name"), str)]
    if len(set(names)) < len(names):
        raise UndecodablePayload("two tensors have the same name")
    return found


def rows(body: Mapping[str, Any], role: Role) -> Rows:
    """Return the tensors as columns. Raises `UndecodablePayload`."""
    return joined(map(tensor_rows, tensors(body, role)))


def tensor_rows(tensor: Mapping[str, Any]) -> Rows:
    """Return one tensor as columns. Raises `UndecodablePayload`."""
    head = Head.of(tensor.get("name", ""), tensor["datatype"], tensor["shape"], tensor.get("parameters"))
    if "data" not in tensor:
        raise UndecodablePayload(f"tensor {head.name[:64]!r} has no data in the JSON body")
    data, rank = tensor["data"], len(head.shape)
    if head.is_base64:
        return columns(head, typed(list(map(from_base64, _flat(data, rank)))))
    return columns(head, _values(data, rank, floating=head.datatype in _FLOATING))


def _values(data: Any, rank: int, *, floating: bool) -> NDArray[Any]:  # noqa: ANN401 - any JSON
    """Return the elements of data, flat. Of lists that differ in length, the arrays are put one behind the other."""
    kinds = set(map(type, data)) if isinstance(data, list) and rank > 1 else set()
    if kinds == {list}:
        return _values(list(chain.from_iterable(data)), rank - 1, floating=floating)
    if Numbers in kinds and kinds <= {list, Numbers}:
        parts = [_values(cells, rank - 1, floating=floating) for cells in data]
        types = {part.dtype.kind for part in parts}
        if len(types) == 1 and types != {"O"}:
            return np.concatenate(parts)
        if "f" in types and types <= {"f", "i", "u"}:
            return _values(data, rank, floating=True)
    return typed(_flat(data, rank), floating=floating)


def _flat(data: Any, rank: int) -> list[Any] | Numbers:  # noqa: ANN401 - any JSON
    if isinstance(data, Numbers):
        within = data.values.shape[max(rank, 1) :]
        return list(data.values.reshape(-1, *within)) if within else data
    cells = list(data) if isinstance(data, list) else [data]
    for _ in range(rank - 1):
        if not cells or not all(type(cell) in (list, Numbers) for cell in cells):
            break
        cells = [item for cell in cells for item in cell]
    return cells
