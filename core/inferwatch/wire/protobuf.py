"""A reader of the protobuf wire format, for the few messages that are read here: no schema, no dependency, bounded.

Source: https://protobuf.dev/programming-guides/encoding. Groups, which proto3 does not have, are a fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import UndecodablePayload

MAX_FIELDS: Final = 250_000
"""A body of more fields than this, those of nested messages included, is not decoded."""

LENGTH: Final = 2
"""The wire type of text, bytes, messages and packed numbers."""

_LONGEST_VARINT: Final = 10
_BLOCK_BYTES: Final = 65536


class Field(NamedTuple):
    """A field of a message: its number, its wire type, and the bytes of its value, a varint's as they are written.

    So the values of a repeated number, packed or not, are those of the fields one behind the other.
    """

    number: int
    wire: int
    value: memoryview


class Reader:
    """Reads messages, `MAX_FIELDS` in all."""

    def __init__(self, most_fields: int = MAX_FIELDS) -> None:
        self._left = most_fields

    def fields(self, message: memoryview) -> Iterator[Field]:
        """Yield the fields in their order. Raises `UndecodablePayload` where the message is none, or cut."""
        position, end = 0, len(message)
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise UndecodablePayload("the protobuf message has too many fields")
            key, start = _varint(message, position)
            match key & 7:
                case 0:
                    stop = _varint(message, start)[1]
                case 1:
                    stop = start + 8
                case 2:  # LENGTH
                    length, start = _varint(message, start)
                    stop = start + length
                case 5:
                    stop = start + 4
                case wire:
                    raise UndecodablePayload(f"a protobuf field has the wire type {wire}")
            if stop > end or not key >> 3:
                raise UndecodablePayload("a protobuf field is cut, or has no number")
            yield Field(key >> 3, key & 7, message[start:stop])
            position = stop


def varints(data: bytes) -> NDArray[np.uint64]:
    """Return the values of varints one behind the other (n,), negative ones as two's complement of 64 bits.

    Raises `UndecodablePayload` where the last is cut, or one is longer than 10 bytes.
    """
    octets = np.frombuffer(data, dtype=np.uint8)
    blocks: list[NDArray[np.uint64]] = []
    position = 0
    while position < octets.size:  # in blocks, because the steps between take many times the memory of the bytes
        stop = min(position + _BLOCK_BYTES, octets.size) - 1
        last = octets[stop : stop + _LONGEST_VARINT] < 0x80
        if not last.any():
            raise UndecodablePayload("a varint is cut, or longer than 10 bytes")
        stop += int(last.argmax()) + 1
        blocks.append(_block(octets[position:stop]))
        position = stop
    return np.concatenate(blocks) if blocks else np.empty(0, dtype=np.uint64)


def _block(octets: NDArray[np.uint8]) -> NDArray[np.uint64]:
    ends = np.flatnonzero(octets < 0x80)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > _LONGEST_VARINT:
        raise UndecodablePayload("a varint is cut, or longer than 10 bytes")
    values = np.zeros(ends.size, dtype=np.uint64)
    for index in range(longest):
        there = lengths > index
        values[there] |= (octets[starts[there] + index] & 0x7F).astype(np.uint64) << np.uint64(7 * index)
    return values


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the value of the varint at a position, and where it ends."""
    value = shift = 0
    for end, octet in enumerate(message[position : position + _LONGEST_VARINT], position + 1):
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value, end
        shift += 7
    raise UndecodablePayload("a varint is cut, or longer than 10 bytes")
