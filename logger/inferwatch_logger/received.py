"""What came in one message, sorted into what is kept, what is counted, and what goes to the dead letter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from inferwatch.aliases import Aliases
from inferwatch.errors import InvalidEvent
from inferwatch.events import CloudEvent
from inferwatch.explanation_event import keepable
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.redaction import Redaction


@dataclass(slots=True)
class Received:
    """The members of messages: `events` to be kept, the types of those that are `ignored`, and `faults` with the index
    of the member in its message."""

    events: list[CloudEvent] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    faults: list[tuple[int, InvalidEvent]] = field(default_factory=list)

    @property
    def malformed(self) -> list[str]:
        """The reasons of the faults."""
        return [fault.reason for _, fault in self.faults]


def sorted_out(members: Iterable[CloudEvent | InvalidEvent], redaction: Redaction, aliases: Aliases) -> Received:
    """Return the members of a message, those that are kept without what is to be taken out of them."""
    received = Received()
    for index, member in enumerate(members):
        if isinstance(member, InvalidEvent):
            received.faults.append((index, member))
        elif (event := aliases.event(member)).role is not None:
            received.events.append(redaction.event(event))
        elif (explanation := keepable(event, redaction)) is not None:
            received.events.append(explanation)
        else:
            received.ignored.append(member.type)
    return received


def bury(
    dead_letter: DeadLetter,
    faults: Iterable[tuple[int, InvalidEvent]],
    attributes: Mapping[str, str],
    body: bytes,
    *,
    envelope: bool = False,
    batch: bool = False,
) -> None:
    """Keep what was no event. `envelope` says that the body is JSON with attributes in it, `batch` a list of such."""
    if not envelope:
        for _, fault in faults:
            dead_letter.keep(fault, attributes, body)
        return
    members = _members(body, batch=batch)
    for index, fault in faults:
        member = members[index] if index < len(members) else None
        _bury_member(dead_letter, fault, attributes, member, body)


def _bury_member(
    dead_letter: DeadLetter, fault: InvalidEvent, attributes: Mapping[str, str], member: object, body: bytes
) -> None:
    if not isinstance(member, dict):
        dead_letter.keep(fault, attributes, body, envelope=True)
        return
    data = member.get("data", member.get("data_base64", ""))
    own = {name: value for name, value in member.items() if name not in ("data", "data_base64")}
    text = data if isinstance(data, str) else orjson.dumps(data).decode()
    dead_letter.keep(fault, {**attributes, **own}, text.encode())


def _members(body: bytes, *, batch: bool) -> list[Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return []
    return parsed if batch and isinstance(parsed, list) else [parsed]
