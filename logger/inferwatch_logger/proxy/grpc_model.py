"""Which model a gRPC call asks, where its messages say so and no path does: V2's `ModelInfer` and its stream."""

from __future__ import annotations

import re
import zlib
from typing import Final

ENOUGH_BYTES: Final = 512
"""Of a message: where the name is not among these, it is not looked for any further."""

_CALLS: Final = frozenset(
    {"/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/ModelStreamInfer"}
)
_FRAME_BYTES: Final = 5
_MODEL_NAME: Final = b"\x0a"
"""The tag of a protobuf message's first field, a text. Serialisers write fields in order, this one first."""

_NAME: Final = re.compile(rb"[A-Za-z0-9._-]{1,253}")
_EITHER_CODEC: Final = 32 + zlib.MAX_WBITS


def names_its_model(path: str) -> bool:
    """Return whether the messages of a call say which model it asks."""
    return path in _CALLS


def model_of(body: bytes) -> str | None:
    """Return the model that the beginning of a body names; None where it does not, or not yet."""
    message = body[_FRAME_BYTES:]
    if body[:1] == b"\x01":
        try:
            message = zlib.decompressobj(_EITHER_CODEC).decompress(message, ENOUGH_BYTES)
        except zlib.error:
            return None
    if message[:1] != _MODEL_NAME or len(message) < 2:
        return None
    length, start = message[1], 2
    if length >= 0x80 and len(message) > 2:
        length, start = (length & 0x7F) | message[2] << 7, 3
    name = message[start : start + length]
    return name.decode("ascii") if len(name) == length and _NAME.fullmatch(name) else None
