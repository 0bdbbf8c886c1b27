"""The V2 protocol over gRPC: `ModelInfer` messages of `inference.GRPCInferenceService`, in frames or bare.

A frame is a flag byte, the message's length in 4 bytes, big-endian, and the message; flag 1 says that it is compressed,
by a codec that only the `grpc-encoding` header names: gzip and deflate are recognised by their first bytes. Several
frames, as of a stream, are the rows of all of them. Bare messages are what ModelMesh logs.

Tensors have typed contents, or raw ones (little-endian) for all of them. Other calls of the service, which ask whether
a server or a model is there and what it is, hold no rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inferwatch.cells import objects
from inferwatch.errors import UndecodablePayload
from inferwatch.events import Role
from inferwatch.rows import Rows
from inferwatch.wire.columns import joined
from inferwatch.wire.compression import GZIP_MAGIC, inflate
from inferwatch.wire.protobuf import LENGTH, Field, Reader, varints
from inferwatch.wire.tensors import ITEMS, Head, columns, contents, raw

MAX_FRAMES: Final = 10_000
"""A body of more frames than this is not decoded."""

_HEAD_BYTES: Final = 5
_COMPRESSED: Final = 1
_DATATYPES: Final = frozenset(name.encode() for name in (*ITEMS, "BYTES"))
_NAME, _DATATYPE, _SHAPE, _PARAMETERS, _CONTENTS = 1, 2, 3, 4, 5
_TENSORS: Final = 5
_RAW: Final = {Role.REQUEST: 7, Role.RESPONSE: 6}
_INT32, _UINT32, _BYTES = 2, 4, 8
_TYPED: Final = {
    "BOOL": 1,
    **dict.fromkeys(("INT8", "INT16", "INT32"), _INT32),
    "INT64": 3,
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), _UINT32),
    "UINT64": 5,
    "FP32": 6,
    "FP64": 7,
    "BYTES": _BYTES,
}


@dataclass(frozen=True, slots=True)
class _Message:
    """The tensors of a message, their raw contents, and the other fields."""

    tensors: list[list[Field]]
    raw: list[memoryview]
    others: list[Field]


def is_framed(data: bytes) -> bool:
    """Return whether a body that is not empty begins as gRPC frames do, and nothing else that is known."""
    return data[0] <= _COMPRESSED


def rows(data: bytes, role: Role, max_inflated_bytes: int) -> Rows | None:
    """Return the rows of the messages in frames; None where they are calls that hold none.

    Raises `UndecodablePayload`.
    """
    parts = [part for message in _messages(data, max_inflated_bytes) if (part := _framed(message, role)) is not None]
    if not parts:
        return None
    if any(part.names != parts[0].names for part in parts):
        raise UndecodablePayload("the messages of a gRPC stream have different columns")
    return Rows.concat(parts)


def bare_rows(data: bytes, role: Role) -> Rows | None:
    """Return the rows of a message without a frame; None where the body is none. Raises `UndecodablePayload`."""
    reader = Reader()
    try:
        message = _read(reader, memoryview(data), role)
        heads = [_head(reader, tensor) for tensor in message.tensors]
    except UndecodablePayload:
        return None
    return _rows(reader, message, heads) if heads else None


def _messages(data: bytes, max_inflated_bytes: int) -> Iterator[memoryview]:
    view = memoryview(data)
    position, room = 0, max_inflated_bytes
    for _ in range(MAX_FRAMES + 1):
        if position == len(data):
            return
        start = position + _HEAD_BYTES
        length = int.from_bytes(view[position + 1 : start], "big")
        message = view[start : start + length]
        if start > len(data) or len(message) < length or view[position] > _COMPRESSED:
            raise UndecodablePayload(f"a gRPC frame is broken: it states {length} bytes, and {len(message)} are there")
        if view[position]:
            message = _decompressed(message, room)
            room -= len(message)
        yield message
        position = start + length
    raise UndecodablePayload(f"the body has more than {MAX_FRAMES} gRPC frames")


def _decompressed(message: memoryview, max_bytes: int) -> memoryview:
    first = bytes(message[:2])
    is_zlib = len(first) == 2 and first[0] & 0x0F == 8 and int.from_bytes(first, "big") % 31 == 0
    if first != GZIP_MAGIC and not is_zlib:
        raise UndecodablePayload("the message of a gRPC frame is compressed by a codec other than gzip and deflate")
    return memoryview(inflate(message, max_bytes, what="message of a gRPC frame"))


def _framed(data: memoryview, role: Role) -> Rows | None:
    reader = Reader()
    message = _read(reader, data, role)
    if not message.tensors or _describes(reader, message):
        _check_call(message)
        return None
    return _rows(reader, message, [_head(reader, tensor) for tensor in message.tensors])


def _read(reader: Reader, data: memoryview, role: Role) -> _Message:
    message = _Message([], [], [])
    for field in reader.fields(data):
        if field[:2] == (_TENSORS, LENGTH):
            message.tensors.append(list(reader.fields(field.value)))
        elif field[:2] == (_RAW[role], LENGTH):
            message.raw.append(field.value)
        else:
            message.others.append(field)
    return message


def _describes(reader: Reader, message: _Message) -> bool:
    """Return whether a message is a model's metadata: its field 4 holds tensors, where a reply has parameters."""
    for field in message.others:
        if field[:2] == (_PARAMETERS, LENGTH):
            return any(
                bytes(part.value) in _DATATYPES for part in reader.fields(field.value) if part[:2] == (2, LENGTH)
            )
    return False


def _check_call(message: _Message) -> None:
    """Raise `UndecodablePayload` unless a message without tensors is one of the service's other calls."""
    if any(number > _PARAMETERS or (wire != LENGTH and number > 1) for number, wire, _ in message.others):
        raise UndecodablePayload("the gRPC message is no ModelInfer, nor another of the inference service")


def _head(reader: Reader, tensor: Sequence[Field]) -> Head:
    shape = varints(_joined(tensor, _SHAPE)).view(np.int64).tolist()
    parameters = dict(_parameter(reader, field.value) for field in tensor if field.number == _PARAMETERS)
    return Head.of(_text(tensor, _NAME), _text(tensor, _DATATYPE), shape, parameters)


def _parameter(reader: Reader, entry: memoryview) -> tuple[str, str]:
    """Return the name and the value, where it is text, of an entry of a tensor's parameters."""
    fields = list(reader.fields(entry))
    value = [list(reader.fields(field.value)) for field in fields if field[:2] == (2, LENGTH)]
    return _text(fields, 1), _text(value[-1] if value else [], 3)


def _rows(reader: Reader, message: _Message, heads: Sequence[Head]) -> Rows:
    names = [head.name for head in heads]
    if len(set(names)) < len(names):
        raise UndecodablePayload("two tensors have the same name")
    if not message.raw:
        values = (_typed(reader, head, tensor) for head, tensor in zip(heads, message.tensors, strict=True))
    elif len(message.raw) == len(heads):
        values = (raw(head, data) for head, data in zip(heads, message.raw, strict=True))
    else:
        raise UndecodablePayload(f"the gRPC message has {len(heads)} tensors and {len(message.raw)} raw contents")
    return joined(map(columns, heads, values))


def _typed(reader: Reader, head: Head, tensor: Sequence[Field]) -> NDArray[Any]:
    number = _TYPED.get(head.datatype)
    if number is None:
        raise UndecodablePayload(f"tensor {head.name[:64]!r} of {head.datatype} has no raw contents")
    fields = [
        part
        for field in tensor
        if field[:2] == (_CONTENTS, LENGTH)
        for part in reader.fields(field.value)
        if part.number == number
    ]
    if number == _BYTES:
        return objects(contents(head, [bytes(field.value) for field in fields]))
    data = _joined(fields, number)
    if head.datatype in ("FP32", "FP64"):
        return raw(head, memoryview(data))
    return _integers(head, number, varints(data))


def _integers(head: Head, number: int, values: NDArray[np.uint64]) -> NDArray[Any]:
    """Return the numbers that varints stand for, in the tensor's type. Those of 32 bits are cut, as protobuf asks."""
    if head.datatype == "BOOL":
        return values.astype(np.bool_)
    cut = {_INT32: np.int32, _UINT32: np.uint32}.get(number)
    wide = values.view(np.int64) if cut is None and head.datatype == "INT64" else values
    exact = wide if cut is None else values.astype(np.uint32).view(cut)
    narrow = exact.astype(ITEMS[head.datatype])
    if not np.array_equal(narrow, exact):
        raise UndecodablePayload(f"tensor {head.name[:64]!r} has values that {head.datatype} does not hold")
    return narrow


def _joined(fields: Sequence[Field], number: int) -> bytes:
    return b"".join(field.value for field in fields if field.number == number)


def _text(fields: Sequence[Field], number: int) -> str:
    """Return a text field, empty where it is absent; the last one counts."""
    data = next((field.value for field in reversed(fields) if field[:2] == (number, LENGTH)), b"")
    try:
        return bytes(data).decode()
    except UnicodeDecodeError as error:
        raise UndecodablePayload("a text of the gRPC message is no UTF-8") from error
