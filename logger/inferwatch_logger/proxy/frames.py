"""HTTP/2 frames as they pass (RFC 9113, 4 and 6): read, and answered by nobody.

What one side sends is fed as it comes, cut anywhere. DATA is given on in the parts that came, so that no frame is
buffered for its length; of other frames, those that matter are given whole: HEADERS with its CONTINUATIONs as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, RESET, SETTINGS, PUSH_PROMISE, CONTINUATION = 0, 1, 3, 4, 5, 9
END_STREAM: Final = 0x1

_ACK: Final = 0x1
_END_HEADERS: Final = 0x4
_PADDED: Final = 0x8
_PRIORITY: Final = 0x20
_PRIORITY_BYTES: Final = 5
_PROMISED_BYTES: Final = 4
_HEAD_BYTES: Final = 9
_WHOLE: Final = frozenset({HEADERS, RESET, SETTINGS, PUSH_PROMISE, CONTINUATION})
_MOST_BLOCK_BYTES: Final = 524_288
"""Of a header block, as of a head of HTTP/1.1."""


class BrokenFrames(ValueError):
    """What passes is no HTTP/2."""


class Frame(NamedTuple):
    """A frame, or a part of DATA: without padding, priority and promised stream. `last`: its last part, or whole."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    last: bool = True

    @property
    def ends_stream(self) -> bool:
        """Whether its sender sends no more on the stream."""
        return self.last and bool(self.flags & END_STREAM)


class Frames:
    """Reads what one side of a connection sends. `preface`: it begins with that of a client."""

    def __init__(self, *, preface: bool) -> None:
        self._preface = PREFACE if preface else b""
        self._head = b""
        self._begun = False
        self._in_frame = False
        self._kind = self._flags = self._stream = 0
        self._left = 0
        self._padding = 0
        self._payload = bytearray()
        self._block: Frame | None = None

    @property
    def between(self) -> bool:
        """Whether another frame may be put in here: SETTINGS have come, and no frame or header block is open."""
        return self._begun and not (self._in_frame or self._head or self._block)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield what the bytes bring. Raises `BrokenFrames`, after which nothing may be fed."""
        position = self._skip_preface(data)
        while position < len(data):
            if not self._in_frame:
                needed = _HEAD_BYTES - len(self._head)
                self._head += data[position : position + needed]
                position += needed
                if len(self._head) < _HEAD_BYTES:
                    return
                self._begin()
            part = data[position : position + self._left]
            position += len(part)
            self._left -= len(part)
            self._in_frame = self._left > 0
            if self._kind == DATA:
                yield self._data(part)
            elif self._kind in _WHOLE:
                yield from self._whole(part)

    def _skip_preface(self, data: bytes) -> int:
        position = min(len(self._preface), len(data))
        if self._preface[:position] != data[:position]:
            raise BrokenFrames("the client's preface is not that of HTTP/2")
        self._preface = self._preface[position:]
        return position

    def _begin(self) -> None:
        head, self._head = self._head, b""
        self._left = int.from_bytes(head[:3], "big")
        self._kind, self._flags = head[3], head[4]
        self._stream = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
        self._in_frame = True
        self._padding = -1 if self._kind == DATA and self._flags & _PADDED else 0
        if not self._begun and (self._kind != SETTINGS or self._flags & _ACK or self._stream):
            raise BrokenFrames("the first frame is no SETTINGS")
        self._begun = True
        if (self._block is not None) is not (self._kind == CONTINUATION):
            raise BrokenFrames("a header block is interrupted, or continued without having begun")
        if self._kind in _WHOLE and self._left > _MOST_BLOCK_BYTES:
            raise BrokenFrames(f"a frame of type {self._kind} has {self._left} bytes")

    def _data(self, part: bytes) -> Frame:
        """Give on what is no padding of a part of DATA."""
        if self._padding < 0 and part:
            self._padding = part[0]
            part = part[1:]
        surplus = self._padding - self._left
        content = part[: max(0, len(part) - surplus)] if surplus > 0 else part
        return Frame(DATA, self._flags, self._stream, content, not self._in_frame)

    def _whole(self, part: bytes) -> Iterator[Frame]:
        self._payload += part
        if self._in_frame:
            return
        payload, self._payload = bytes(self._payload), bytearray()
        frame = Frame(self._kind, self._flags, self._stream, payload)
        if self._kind in (HEADERS, PUSH_PROMISE):
            frame = _bare(frame)
        elif self._block is not None:
            frame = self._continued(self._block, frame)
        elif self._kind in (RESET, SETTINGS):
            yield frame
            return
        self._block = None if frame.flags & _END_HEADERS else frame
        if self._block is None:
            yield frame

    def _continued(self, block: Frame, frame: Frame) -> Frame:
        payload = block.payload + frame.payload
        if frame.stream != block.stream or len(payload) > _MOST_BLOCK_BYTES:
            raise BrokenFrames("a header block goes on in another stream, or for too long")
        return block._replace(payload=payload, flags=block.flags | frame.flags & _END_HEADERS)


def settings(frame: Frame) -> dict[int, int]:
    """Return the parameters of a SETTINGS frame by their identifiers; none of an acknowledgement."""
    data = frame.payload
    return {
        int.from_bytes(data[start : start + 2], "big"): int.from_bytes(data[start + 2 : start + 6], "big")
        for start in range(0, len(data) - 5, 6)
    }


def goaway(last_stream: int = 0x7FFFFFFF) -> bytes:
    """Return a frame that asks a client to begin no more calls here; those that it began are served."""
    return bytes((0, 0, 8, 7, 0, 0, 0, 0, 0)) + last_stream.to_bytes(4, "big") + bytes(4)


def _bare(frame: Frame) -> Frame:
    """Return a frame with a header block as the block alone."""
    data = frame.payload
    padding = 0
    if frame.flags & _PADDED and data:
        padding, data = data[0], data[1:]
    before = _PROMISED_BYTES if frame.kind == PUSH_PROMISE else 0
    if frame.kind == HEADERS and frame.flags & _PRIORITY:
        before = _PRIORITY_BYTES
    if before + padding > len(data):
        raise BrokenFrames("the padding of a header block is longer than the frame")
    return frame._replace(payload=data[before : len(data) - padding])
