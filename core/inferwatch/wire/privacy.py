"""Privacy at the edge: credentials that clients send as headers never enter an event.

An event carries request headers in its `metadata` extension, a JSON object header name -> list of values. Whatever
enters through this package has lost the secret ones, at any depth of that object, in any case and with `_` for `-`.
"""

from __future__ import annotations

from typing import Any

import orjson

SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})
"""Headers that are never stored nor sent on, lower-case."""

_SECRET_NAMES = frozenset(name.replace("-", "") for name in SECRET_HEADERS)
_MAX_DEPTH = 16


def is_secret(name: str) -> bool:
    """Return whether a header, or a CloudEvents attribute of that name, holds a credential."""
    return name.strip().lower().replace("_", "").replace("-", "") in _SECRET_NAMES


def public_metadata(text: str) -> str | None:
    """Return the `metadata` extension without secret headers; unchanged where it cannot hold one.

    Text that might, and is not a JSON object that can be cleaned, becomes None: drop it.
    """
    if not _suspect(text):
        return text
    try:
        headers = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(headers, dict):
        return None
    public = _public(headers, _MAX_DEPTH)
    return text if public == headers else orjson.dumps(public).decode()


def _suspect(text: str) -> bool:
    """Whether the text spells a part of a secret name, or an escape that could."""
    lower = text.lower()
    return "auth" in lower or "cook" in lower or "api" in lower or "\\" in text or "%" in text


def _public(value: Any, depth: int) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        if not depth:
            return {}
        return {name: _public(item, depth - 1) for name, item in value.items() if not is_secret(name)}
    if isinstance(value, list):
        return [_public(item, depth - 1) for item in value] if depth else []
    return value
