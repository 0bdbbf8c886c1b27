"""The JSON of structured and batched events: `data` of large ones stays text, so that no number becomes an object."""

from __future__ import annotations

from typing import Any, Final

import orjson

try:
    from simdjson import Array, Object, Parser
except ImportError:  # there is no wheel for every interpreter
    Parser = None

MIN_BYTES: Final = 4096
"""Events that are smaller, on average, are parsed whole."""


def parsed(body: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Return the JSON value of a body, in which `data` of large events is a compact `orjson.Fragment`.

    Raises `orjson.JSONDecodeError` for what is no JSON.
    """
    large = _large(body)
    return orjson.loads(body) if large is None else large


def _large(body: bytes) -> dict[str, Any] | list[Any] | None:
    """Return what large events hold; None where orjson is to read them, or to say what is wrong."""
    if Parser is None or len(body) < MIN_BYTES:
        return None
    try:
        document = Parser().parse(body)
    except (ValueError, RuntimeError):  # no JSON, a number beyond 64 bits, or deeper than simdjson goes
        return None
    if isinstance(document, Object):
        return _fields(document)
    if not isinstance(document, Array) or len(body) < MIN_BYTES * len(document):
        return None
    members = [document[place] for place in range(len(document))]
    fields = [_fields(member) if isinstance(member, Object) else None for member in members]
    return None if None in fields else fields


def _fields(event: Any) -> dict[str, Any] | None:  # noqa: ANN401 - of simdjson
    """Return an event's members; None where simdjson finds another one by a name than was meant."""
    names = list(event.keys())
    if len(set(names)) < len(names) or "\0" in "".join(names):
        return None
    fields = {name: event[name] for name in names}
    for name, value in fields.items():
        if isinstance(value, (Object, Array)):
            fields[name] = orjson.Fragment(value.mini) if name == "data" else orjson.loads(value.mini)
    return fields
