"""Tensors as raw bytes, little-endian, row-major, and requests of V2's binary tensor extension that hold them.

Such a request is a JSON head, then every tensor's bytes; the head's length travels in a header of its own. An element
of a BYTES tensor is its length in 4 bytes, then its bytes. gRPC has the same bytes in its raw contents. Against JSON it
spares both sides the writing and reading of numbers as text, which for the many rows of an explanation is nearly all of
the work.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from inferwatch.rows import Matrix, Schema
from inferwatch_explainers.request_form import RequestForm, Tensor, column_cells

LENGTH_HEADER: Final = "Inference-Header-Content-Length"

_DTYPES: Final[Mapping[str, str]] = {
    "BOOL": "|b1",
    "INT8": "|i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "|u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}


class BinaryBody(NamedTuple):
    """A body, and how many bytes of it are the JSON head."""

    content: bytes
    head_bytes: int


class RawTensor(NamedTuple):
    """A tensor with its values as bytes; `parameters` are those of the form."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Mapping[str, Any]
    data: bytes | memoryview


def write_binary(form: RequestForm, values: Matrix, schema: Schema) -> BinaryBody:
    """Return a request about rows (r, d) as the schema encodes them, in a V2 form; a binary reply is asked for."""
    tensors = list(raw_tensors(form, values, schema))
    inputs: list[dict[str, Any]] = [
        {
            "name": tensor.name,
            "shape": tensor.shape,
            "datatype": tensor.datatype,
            "parameters": {**tensor.parameters, "binary_data_size": len(tensor.data)},
        }
        for tensor in tensors
    ]
    head = orjson.dumps({"inputs": inputs, "parameters": {**form.parameters, "binary_data_output": True}})
    return BinaryBody(b"".join([head, *(tensor.data for tensor in tensors)]), len(head))


def raw_tensors(form: RequestForm, values: Matrix, schema: Schema) -> Iterator[RawTensor]:
    """Yield the tensors of a V2 form for rows (r, d) as the schema encodes them.

    Tensors keep the form's datatypes, but where a value would change by that, they are FP64.
    """
    start = 0
    for tensor in form.tensors:
        width = tensor.width
        places, kinds = form.order[start : start + width], form.cells[start : start + width]
        start += width
        features = [schema.features[place] for place in places]
        if any(feature.kind == "categorical" for feature in features):
            cells = [
                column_cells(feature, kind, values[:, place])
                for feature, kind, place in zip(features, kinds, places, strict=True)
            ]
            datatype, tail = _mixed(tensor, cells)
        else:
            straight = places == tuple(range(values.shape[1]))
            datatype, tail = _numeric(tensor, values if straight else values[:, list(places)])
        yield RawTensor(tensor.name, datatype, (len(values), *tensor.row_shape), tensor.parameters or {}, tail)


def _numeric(tensor: Tensor, values: Matrix) -> tuple[str, memoryview]:
    dtype = _DTYPES.get(tensor.datatype)
    if dtype is not None:
        with np.errstate(invalid="ignore", over="ignore"):
            cast = values.astype(dtype, copy=False)
        if cast.dtype.kind == "f" or np.array_equal(cast.astype(np.float64), values):
            return tensor.datatype, _raw(cast)
    return "FP64", _raw(values.astype("<f8", copy=False))


def _raw(values: NDArray[Any]) -> memoryview:
    """Return the bytes of an array, which are copied only where they do not lie in order."""
    return values.reshape(-1).view(np.uint8).data


def _mixed(tensor: Tensor, columns: Sequence[list[Any]]) -> tuple[str, bytes | memoryview]:
    cells = [cell for row in zip(*columns, strict=True) for cell in row]
    if tensor.datatype == "BYTES" or any(type(cell) is str for cell in cells):
        encoded = [str(cell).encode() for cell in cells]
        return "BYTES", b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    return _numeric(tensor, np.array(cells, dtype=np.float64))
