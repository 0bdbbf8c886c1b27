"""Messages over pipes: JSON with arrays beside it, as raw bytes. Nothing that is read is ever run.

A frame is the length of its head (4 bytes, big-endian), the head, and the bytes of each array one after the other. The
head is JSON: `content`, in which `{"$array": i}` stands for the array of this number, and `arrays`, dtype and shape of
each.
"""

from __future__ import annotations

import json
import struct
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_MOST_HEAD_BYTES = 256 * 1024 * 1024
_KINDS = "biuf"


def write_message(stream: IO[bytes], content: Any) -> None:  # noqa: ANN401 - JSON
    """Write JSON-ready content, in which there may be arrays of numbers, and flush."""
    arrays: list[NDArray[Any]] = []
    head = {
        "content": _taken_out(content, arrays),
        "arrays": [[array.dtype.str, list(array.shape)] for array in arrays],
    }
    encoded = json.dumps(head).encode()
    stream.write(struct.pack(">I", len(encoded)) + encoded)
    for array in arrays:
        stream.write(array.tobytes())
    stream.flush()


def read_message(stream: IO[bytes]) -> Any:  # noqa: ANN401 - JSON
    """Return the next message's content, None at the end. Raises `ValueError` for what is no message."""
    prefix = stream.read(4)
    if len(prefix) < 4:
        return None
    (length,) = struct.unpack(">I", prefix)
    if length > _MOST_HEAD_BYTES:
        raise ValueError(f"a head of {length} bytes is no message")
    head = json.loads(_exactly(stream, length))
    arrays = [_array(stream, dtype, shape) for dtype, shape in head["arrays"]]
    return _put_back(head["content"], arrays)


def _taken_out(value: Any, arrays: list[NDArray[Any]]) -> Any:  # noqa: ANN401
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in _KINDS:
            raise ValueError(f"an array of {value.dtype} cannot be sent")
        arrays.append(np.asarray(value, order="C"))
        return {"$array": len(arrays) - 1}
    if isinstance(value, dict):
        return {str(key): _taken_out(each, arrays) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_taken_out(each, arrays) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def _put_back(value: Any, arrays: list[NDArray[Any]]) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        if "$array" in value:
            return arrays[value["$array"]]
        return {key: _put_back(each, arrays) for key, each in value.items()}
    return [_put_back(each, arrays) for each in value] if isinstance(value, list) else value


def _array(stream: IO[bytes], dtype: str, shape: list[int]) -> NDArray[Any]:
    kind = np.dtype(dtype)
    if kind.kind not in _KINDS:
        raise ValueError(f"an array of {kind} cannot be read")
    count = int(np.prod(shape, dtype=np.int64)) if shape else 1
    return np.frombuffer(_exactly(stream, count * kind.itemsize), dtype=kind).reshape(shape)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise ValueError("the message ends before its end")
    return data
