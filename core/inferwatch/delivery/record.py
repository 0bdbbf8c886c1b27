"""Events as bytes: the attributes as compact JSON, then the body as it is."""

from __future__ import annotations

import orjson

from inferwatch.events import CloudEvent


def attributes_of(event: CloudEvent) -> bytes:
    """Return everything of the event but its body."""
    # The time is text: years 1 to 9999 in nanoseconds do not fit the 64 bits that JSON libraries give integers.
    moment = None if event.time_ns is None else str(event.time_ns)
    extensions = event.extensions if type(event.extensions) is dict else dict(event.extensions)
    fields = (event.id, event.source, event.type, moment, event.content_type, event.truncated, extensions)
    return orjson.dumps(fields)


def event_of(attributes: bytes, data: bytes) -> CloudEvent:
    """Return the event that `attributes_of` and its body describe. Raises `ValueError` for anything else."""
    identity, source, kind, moment, content_type, truncated, extensions = orjson.loads(attributes)
    time_ns = None if moment is None else int(moment)
    return CloudEvent(identity, source, kind, time_ns, content_type, extensions, data, truncated)
