"""Events to and from the objects of the `cloudevents` SDK, 1.x and 2.x, for those who hold these.

The SDK is imported when `to_sdk` is to choose a class, not before; `inferwatch[cloudevents]` brings it. Its classes
are laxer than the specification (they invent an id and a time, and some take anything as either), so what they hold is
checked here as what comes over a wire is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, Final, Protocol, TypeVar

from inferwatch.errors import Fault, InvalidEvent, MissingExtra
from inferwatch.events import CloudEvent
from inferwatch.wire.attributes import from_attributes

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EMPTY_IS_ABSENT: Final = ("subject", "dataschema")


class SdkEvent(Protocol):
    """What every event of the SDK has, whatever its version and class."""

    def get_attributes(self) -> Mapping[str, Any]:
        """Return the attributes by name."""
        ...

    def get_data(self) -> Any:  # noqa: ANN401 - whatever its user put in
        """Return the data."""
        ...


Sdk = TypeVar("Sdk", bound=SdkEvent)


def from_sdk(event: SdkEvent) -> CloudEvent:
    """Return the event that an object of the SDK is.

    Bytes are the data as they stand, and so is text in events of SDK 2, as that sends it; anything else is written as
    JSON. Raises `InvalidEvent` with every fault.
    """
    texts = [(name, _text(value)) for name, value in event.get_attributes().items() if value is not None]
    read = from_attributes(texts, _written(event))
    if isinstance(read, InvalidEvent):
        raise read
    return read


def to_sdk(event: CloudEvent, kind: type[Sdk] | None = None) -> Sdk:
    """Return the event as an object of an event class of the SDK.

    Unset, `kind` is `cloudevents.core.v1.event.CloudEvent` of SDK 2, else `cloudevents.http.CloudEvent`. The data are
    the bytes that came, None where there are none. Events of SDK 2, and those made with pydantic, state their time in
    microseconds; the rest is cut off. Raises `MissingExtra` without the SDK.
    """
    chosen: Any = kind or _newest_class()
    attributes: dict[str, Any] = {
        name: value for name, value in event.attributes().items() if value or name not in _EMPTY_IS_ABSENT
    }
    if event.truncated:
        attributes["truncated"] = "true"
    made: Sdk = _made_by_2(chosen, event, attributes) if _is_of_2(chosen) else _made_by_1(chosen, event, attributes)
    return made


def _made_by_1(kind: Any, event: CloudEvent, attributes: dict[str, Any]) -> Any:  # noqa: ANN401 - a class of the SDK
    made = kind.create(attributes, event.data or None)
    if event.time_ns is None:
        del made["time"]  # which the constructor invents
    return made


def _made_by_2(kind: Any, event: CloudEvent, attributes: dict[str, Any]) -> Any:  # noqa: ANN401 - a class of the SDK
    if event.time_ns is not None:
        attributes["time"] = _EPOCH + timedelta(microseconds=event.time_ns // 1000)
    made = kind(attributes, event.data or None)
    if event.time_ns is None:
        del made.get_attributes()["time"]  # which the constructor invents
    return made


def _written(event: SdkEvent) -> bytes:
    data = event.get_data()
    if data is None:
        return b""
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    if isinstance(data, str) and _is_of_2(type(event)):
        return data.encode(errors="replace")
    try:
        return json.dumps(data, allow_nan=False, default=_json).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent([Fault("data", f"cannot be written as JSON: {error}")], "bad_type") from error


def _is_of_2(kind: type) -> bool:
    """Whether a class follows SDK 2; those of SDK 1, which SDK 2 holds too, are made by a method `create`."""
    return not hasattr(kind, "create")


def _newest_class() -> Any:  # noqa: ANN401 - a class of the SDK
    for module in ("cloudevents.core.v1.event", "cloudevents.http"):
        try:
            return import_module(module).CloudEvent
        except ModuleNotFoundError:
            continue
    raise MissingExtra("an event of the CloudEvents SDK", "cloudevents")


def _json(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON")


def _text(value: Any) -> str:  # noqa: ANN401 - what the SDK takes as an attribute
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)
