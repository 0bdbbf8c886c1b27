"""Compressed bodies, undone up to a bound."""

from __future__ import annotations

import zlib
from typing import Final

from inferwatch.errors import UndecodablePayload

MAX_INFLATED_BYTES: Final = 64 * 1024 * 1024
"""A compressed body that is larger than this when decompressed is not decoded."""

GZIP_MAGIC: Final = b"\x1f\x8b"

_GZIP_OR_ZLIB: Final = 47


def inflate(data: bytes | memoryview, max_bytes: int = MAX_INFLATED_BYTES, *, what: str = "gzip body") -> bytes:
    """Return the decompressed bytes of gzip, or of zlib (what HTTP and gRPC call deflate).

    Raises `UndecodablePayload` when they are broken, cut or too large; `what` names them there.
    """
    parts: list[bytes] = []
    room = max_bytes
    while data:
        stream = zlib.decompressobj(wbits=_GZIP_OR_ZLIB)
        try:
            part = stream.decompress(data, room + 1)
        except zlib.error as error:
            raise UndecodablePayload(f"the {what} is broken: {error}") from error
        room -= len(part)
        if room < 0:
            raise UndecodablePayload(f"the {what} is larger than {max_bytes} bytes when decompressed")
        if not stream.eof:
            raise UndecodablePayload(f"the {what} ends before its end")
        parts.append(part)
        data = stream.unused_data
    return b"".join(parts)
