"""Named bytes as one, so that what belongs together is kept together."""

from __future__ import annotations

import orjson


def pack_parts(parts: dict[str, bytes]) -> bytes:
    """Return named bytes as one."""
    head = orjson.dumps({name: len(data) for name, data in parts.items()})
    return b"".join([len(head).to_bytes(8, "little"), head, *parts.values()])


def unpack_parts(data: bytes) -> dict[str, bytes]:
    """Return what `pack_parts` packed."""
    start = 8 + int.from_bytes(data[:8], "little")
    parts = {}
    for name, size in orjson.loads(data[8:start]).items():
        parts[name], start = data[start : start + size], start + size
    return parts
