"""Bodies to rows. A body is classified by what it holds, never by its content type, which KServe states wrongly.

Gzip is undone up to a bound. JSON is read as RFC 8259 has it, and `NaN`, `Infinity`, `-Infinity` as Python and
JavaScript tools write them. Integers are exact up to 64 bits; one beyond is read as the nearest fraction. A body that
is itself a CloudEvent, as KServe's V1 endpoint accepts, is read by its data. Of fields that a JSON object repeats the
last counts.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import orjson

from inferwatch.errors import UndecodablePayload
from inferwatch.events import Role
from inferwatch.rows import Rows
from inferwatch.wire import ensemble, grpc, openai, sse, v1, v2, v2_binary
from inferwatch.wire.compression import GZIP_MAGIC, MAX_INFLATED_BYTES, inflate
from inferwatch.wire.json_text import BINARY_MARK, split
from inferwatch.wire.numbers import Numbers, lift
from inferwatch.wire.numeric import numeric

__all__ = ["MAX_INFLATED_BYTES", "PROTOCOLS", "Decoded", "decode", "inflate"]

PROTOCOLS: Final = (
    *("v1", "v2", "v2_binary", "grpc", "ensemble", openai.CHAT, openai.COMPLETIONS, openai.EMBEDDINGS),
    *("health", "unknown"),
)
"""What a body can be; core/README.md lists them."""

_METRICS: Final = (b"# HELP ", b"# TYPE ")
_HEALTH_FIELDS: Final = frozenset(
    map(
        frozenset[str],
        (
            {"status"},
            {"live"},
            {"ready"},
            {"name", "ready"},
            {"name", "load"},
            {"models"},
            {"name", "version", "extensions"},
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a body holds, in one of the protocols that core/README.md lists; `fault` says why it is `unknown`."""

    protocol: str
    rows: Rows | None = None
    fault: str | None = None


_HEALTH: Final = Decoded("health")
_NO_TAIL: Final = memoryview(b"")
_DIGITS: Final = 20
_BEYOND: Final = 2**64


def decode(data: bytes, role: Role, *, max_inflated_bytes: int = MAX_INFLATED_BYTES) -> Decoded:
    """Return what the body holds; never raises for any bytes. An empty body is health: it has nothing to judge."""
    try:
        if data[:2] == GZIP_MAGIC:
            data = inflate(data, max_inflated_bytes)
        if not data or data.isspace():
            return _HEALTH
        if grpc.is_framed(data):
            rows = grpc.rows(data, role, max_inflated_bytes)
            return _HEALTH if rows is None else Decoded("grpc", rows)
        if role is Role.RESPONSE and sse.is_stream(data):
            return Decoded(*openai.stream(sse.values(data)))
        return _classify(data, role)
    except UndecodablePayload as error:
        return Decoded("unknown", fault=str(error))


def _classify(data: bytes, role: Role) -> Decoded:
    if data.startswith(_METRICS):
        return _HEALTH
    has_tail = BINARY_MARK in data
    numbers = None if has_tail else numeric(data, role)
    if numbers is not None:
        return Decoded(*numbers)
    try:
        document, tail = split(data) if has_tail else (data, _NO_TAIL)
        body = _parse(document)
    except UndecodablePayload:
        rows = grpc.bare_rows(data, role)
        if rows is None:
            raise
        return Decoded("grpc", rows)
    if isinstance(body, dict) and "specversion" in body and isinstance(body.get("data"), dict):
        body = body["data"]
    if not isinstance(body, dict):
        raise UndecodablePayload(f"the body is JSON, but {_kind(body)} and no object of a known protocol")
    if _is_health(body):
        return _HEALTH
    is_v2 = v2.is_v2(body, role)
    if is_v2 and v2_binary.is_binary(body, role):
        return Decoded("v2_binary", v2_binary.rows(body, tail, role))
    if bytes(tail).strip():
        raise UndecodablePayload("the body is JSON with other bytes behind it")
    if is_v2:
        return Decoded("v2", v2.rows(body, role))
    name = v1.field(body, role)
    if name is not None:
        return Decoded("v1", v1.rows(body, name, role))
    kind = openai.protocol(body, role)
    if kind is not None:
        return Decoded(kind, openai.rows(body, kind, role))
    if ensemble.is_ensemble(body):
        return Decoded("ensemble", ensemble.rows(body))
    if isinstance(body.get("error"), (str, dict)):
        raise UndecodablePayload("the reply is an error")
    shown = ", ".join(repr(key[:32]) for key in list(body)[:5]) or "none"
    raise UndecodablePayload(f"the body is a JSON object of no known protocol; its fields: {shown}")


def _parse(data: bytes) -> Any:  # noqa: ANN401 - any JSON
    lifted = lift(data)
    if lifted is not None:
        with suppress(UndecodablePayload):  # what is wrong is told of the whole text
            return lifted.put_back(_loaded(lifted.text))
    return _loaded(data)


def _loaded(data: bytes) -> Any:  # noqa: ANN401 - any JSON
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if b"NaN" in data or b"Infinity" in data:
            return _parse_leniently(data)
        raise UndecodablePayload(f"the body is no JSON: {error}") from error


def _parse_leniently(data: bytes) -> Any:  # noqa: ANN401 - any JSON
    try:
        body = json.loads(data, parse_int=_integer)
        orjson.dumps(body)  # refuses what could not be shown again: lone surrogates, depth
    except (ValueError, TypeError, RecursionError) as error:
        raise UndecodablePayload(f"the body is no JSON: {error}") from error
    return body


def _integer(digits: str) -> int | float:
    """Return an integer as orjson reads it."""
    number = int(digits) if len(digits) <= _DIGITS else _BEYOND
    return number if -(2**63) <= number < 2**64 else float(digits)


def _is_health(body: dict[str, Any]) -> bool:
    if len(body) <= 3 and frozenset(body) in _HEALTH_FIELDS:
        return True
    if "platform" in body and {"inputs", "outputs"} <= body.keys():  # a model's V2 metadata
        return True
    return openai.lists_models(body)


def _kind(body: Any) -> str:  # noqa: ANN401 - any JSON
    return {list: "an array", Numbers: "an array", str: "a string", type(None): "null"}.get(type(body), "a scalar")
