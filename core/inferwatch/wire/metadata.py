"""The request headers that an event carries in its `metadata`: a JSON object, header name -> list of values."""

from __future__ import annotations

from typing import Any

import orjson

from inferwatch.events import CloudEvent


def logged_headers(metadata: str) -> dict[str, list[str]]:
    """Return the logged headers, lower-case name to values; a name that is there in two spellings has those of both."""
    headers: dict[str, list[str]] = {}
    for name, values in _logged(metadata).items():
        headers.setdefault(name.lower(), []).extend(_texts(values))
    return headers


def logged_header(metadata: str, name: str) -> str | None:
    """Return the first value of a logged header, its name lower-case; None where it was not sent, or is empty."""
    if name not in metadata.lower():
        return None
    logged = _logged(metadata).items()
    return next((text for own, values in logged if own.lower() == name for text in _texts(values)), None) or None


def request_id(event: CloudEvent) -> str | None:
    """Return what an inference shares with those it calls, or is called by."""
    logged = logged_header(event.extensions.get("metadata", ""), "x-request-id")
    return logged or event.extensions.get("requestid") or None


def _logged(metadata: str) -> dict[str, Any]:
    try:
        logged = orjson.loads(metadata) if metadata else None
    except orjson.JSONDecodeError:
        return {}
    return logged if isinstance(logged, dict) else {}


def _texts(values: Any) -> list[str]:  # noqa: ANN401 - any JSON
    return [str(value) for value in values] if isinstance(values, list) else [str(values)]
