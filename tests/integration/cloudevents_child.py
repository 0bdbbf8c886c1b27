"""Reads and writes events with the `cloudevents` SDK of its environment: one JSON line asks, one answers.

A question names an `ask` (`read`, `write`, `to_sdk` or `from_sdk`), and what that is to be done with. Bytes travel as
`{"base64": ...}`. What the SDK raises is answered as `{"error": ...}`.
"""

from __future__ import annotations

import json
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from importlib.metadata import version
from typing import Any

MAJOR = int(version("cloudevents").partition(".")[0])


def main() -> None:
    """Answer until the questions end."""
    say({"version": version("cloudevents")})
    for line in sys.stdin:
        question = json.loads(line, object_hook=_unpacked)
        try:
            answer = ASKS[question.pop("ask")](**question)
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises is the answer
            answer = {"error": f"{type(error).__name__}: {error}"}
        say(answer)


def say(answer: Any) -> None:
    """Write an answer."""
    sys.stdout.write(json.dumps(answer, default=_packed) + "\n")
    sys.stdout.flush()


def read(binding: str, mode: str, headers: dict[str, Any], body: bytes, key: bytes | None = None) -> Any:
    """Return what the SDK reads out of a message; in binary mode the data as they came where it can leave them so."""
    if MAJOR == 1:
        return shown(_read_1(binding, mode, headers, body, key))
    module = import_module(f"cloudevents.core.bindings.{binding}")
    message = module.HTTPMessage(headers, body) if binding == "http" else module.KafkaMessage(headers, key, body)
    return shown(getattr(module, f"from_{mode}_event")(message))


def _read_1(binding: str, mode: str, headers: dict[str, Any], body: bytes, key: bytes | None) -> Any:
    if binding == "http":
        return import_module("cloudevents.http").from_http(headers, body)
    module = import_module("cloudevents.kafka")
    as_they_are = {"data_unmarshaller": bytes} if mode == "binary" else {}
    return getattr(module, f"from_{mode}")(module.KafkaMessage(headers, key, body), **as_they_are)


def write(binding: str, mode: str, attributes: dict[str, Any], data: Any) -> Any:
    """Return the message that the SDK writes of an event: headers, body, and the key where there is one."""
    event = made(attributes, data)
    if MAJOR == 1 and binding == "http":
        headers, body = getattr(import_module("cloudevents.conversion"), f"to_{mode}")(event)
        return {"headers": headers, "body": body or b""}
    if MAJOR == 1:
        message = getattr(import_module("cloudevents.kafka"), f"to_{mode}")(event, **_as_it_is(mode, data))
    else:
        message = getattr(import_module(f"cloudevents.core.bindings.{binding}"), f"to_{mode}_event")(event)
    body = message.value if binding == "kafka" else message.body
    return {"headers": message.headers, "body": body, "key": getattr(message, "key", None)}


def _as_it_is(mode: str, data: Any) -> dict[str, Any]:
    """Tell SDK 1 to leave bytes on Kafka as they are; it would take them for JSON."""
    return {"data_marshaller": bytes} if mode == "binary" and isinstance(data, bytes) else {}


def made(attributes: dict[str, Any], data: Any) -> Any:
    """Return an event of the SDK's own class; version 2 wants the time as a datetime."""
    if MAJOR == 1:
        return import_module("cloudevents.http").CloudEvent(attributes, data)
    if "time" in attributes:
        attributes = attributes | {"time": datetime.fromisoformat(attributes["time"])}
    return import_module("cloudevents.core.v1.event").CloudEvent(attributes, data)


def shown(event: Any) -> Any:
    """Return an event of the SDK as attributes and data."""
    return {"attributes": dict(event.get_attributes()), "data": event.get_data(), "class": _name(type(event))}


def to_sdk(event: dict[str, Any], kind: str | None = None) -> Any:
    """Return what `inferwatch.wire.sdk.to_sdk` makes of an event, and what comes back from it."""
    events, sdk = import_module("inferwatch.events"), import_module("inferwatch.wire.sdk")
    module, _, name = (kind or "").rpartition(".")
    made = sdk.to_sdk(events.CloudEvent(**event), getattr(import_module(module), name) if kind else None)
    return shown(made) | {"back": _fields(sdk.from_sdk(made))}


def from_sdk(attributes: dict[str, Any], data: Any) -> Any:
    """Return what `inferwatch.wire.sdk.from_sdk` makes of an event of the SDK."""
    return _fields(import_module("inferwatch.wire.sdk").from_sdk(made(attributes, data)))


def _fields(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in type(event).__slots__}


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _packed(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return {"base64": b64encode(value).decode()}


def _unpacked(value: dict[str, Any]) -> Any:
    return b64decode(value["base64"]) if value.keys() == {"base64"} else value


ASKS: dict[str, Callable[..., Any]] = {"read": read, "write": write, "to_sdk": to_sdk, "from_sdk": from_sdk}

if __name__ == "__main__":
    main()
