"""Compressed bodies, undone up to a bound."""

from __future__ import annotations

import zlib
from typing import Final

from inferwatch.errors import UndecodablePayload

MAX_INFLATED_BYTES: Final = 64 * 1024 * 1024
"""A compressed body that is larger than this when decompressed is not decoded."""

MAX_MEMBERS: Final = 10_000
"""A compressed body of more parts, one behind the other, is not decoded."""

GZIP_MAGIC: Final = b"\x1f\x8b"

_GZIP_OR_ZLIB: Final = 47
_BLOCK_BYTES: Final = 65536
"""What is left of a block behind a member is copied."""


def inflate(data: bytes | memoryview, max_bytes: int = MAX_INFLATED_BYTES, *, what: str = "gzip body") -> bytes:
    """Return the decompressed bytes of gzip, or of zlib (what HTTP and gRPC call deflate).

    Raises `UndecodablePayload` when they are broken, cut, too large, or in too many members; `what` names them there.
    """
    view = memoryview(data)
    parts: list[bytes] = []
    position, members, room = 0, 0, max_bytes
    while position < len(view):
        members += 1
        if members > MAX_MEMBERS:
            raise UndecodablePayload(f"the {what} has more than {MAX_MEMBERS} members")
        stream = zlib.decompressobj(wbits=_GZIP_OR_ZLIB)
        while not stream.eof:
            block = view[position : position + _BLOCK_BYTES]
            if not block:
                raise UndecodablePayload(f"the {what} ends before its end")
            try:
                parts.append(stream.decompress(block, room + 1))
            except zlib.error as error:
                raise UndecodablePayload(f"the {what} is broken: {error}") from error
            room -= len(parts[-1])
            if room < 0:
                raise UndecodablePayload(f"the {what} is larger than {max_bytes} bytes when decompressed")
            position += len(block) - len(stream.unused_data)
    return b"".join(parts)
