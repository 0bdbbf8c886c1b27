"""Requests and responses of a served model, as events."""

from __future__ import annotations

from typing import Any

import orjson

from inferwatch.clock import NS_PER_S, parse_time
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent, Service
from inferwatch.explanation_event import ExplanationEvent

NOON = parse_time("2026-11-21T12:00:00Z")


def request(identity: str, second: float, instances: list[Any] | bytes, **extensions: str) -> CloudEvent:
    """Return a V1 request so many seconds after noon; bytes are the body as it is."""
    body = instances if isinstance(instances, bytes) else orjson.dumps({"instances": instances})
    return _event(REQUEST_TYPE, identity, second, body, extensions)


def response(identity: str, second: float, predictions: list[Any] | bytes, **extensions: str) -> CloudEvent:
    """Return a V1 response so many seconds after noon; bytes are the body as it is."""
    body = predictions if isinstance(predictions, bytes) else orjson.dumps({"predictions": predictions})
    return _event(RESPONSE_TYPE, identity, second, body, extensions)


def explanation(
    identity: str,
    second: float,
    values: list[list[Any]],
    *,
    method: str = "kernel_shap",
    cached: bool = False,
    **members: Any,
) -> CloudEvent:
    """Return an explanation of rows by `age` and `job` so many seconds after noon."""
    entries = [{"method": method, "features": ["age", "job"], "values": each, **members} for each in values]
    marks = [f"{identity}-{row}" for row in range(len(values))]
    at_ns = NOON + round(second * NS_PER_S)
    return ExplanationEvent(identity, at_ns, Service("default", "income"), entries, marks, cached=cached).event()


def _event(kind: str, identity: str, second: float, body: bytes, extensions: dict[str, str]) -> CloudEvent:
    named = {"namespace": "default", "inferenceservicename": "income"} | extensions
    return CloudEvent(identity, "test", kind, NOON + round(second * NS_PER_S), "application/json", named, body)
