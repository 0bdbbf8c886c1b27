"""Server-sent events, as a logged stream has them: every event of the reply, one behind the other.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html. Each `data` line is taken as a value of its own:
model servers write one JSON value a line, and some leave out the empty line between two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from inferwatch.errors import UndecodablePayload

MAX_VALUES: Final = 250_000
"""A body of more values than this is not decoded."""

_MAX_ENDS: Final = 4 * MAX_VALUES
_TOO_MANY: Final = f"the event stream has more than {MAX_VALUES} values"

DONE: Final = b"[DONE]"
"""What OpenAI's streams end in instead of JSON."""

_LINE: Final = re.compile(rb"[^\r\n]+")
_BOM: Final = b"\xef\xbb\xbf"
_FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
_DATA: Final = _FIELDS[0]
_PLAIN: Final = re.compile(rb"(?:data|event|id|retry)?:[\w .-]*")


def is_stream(data: bytes) -> bool:
    """Return whether a body begins as an event stream does."""
    return data[:64].removeprefix(_BOM).lstrip(b"\r\n").startswith(_FIELDS)


def values(data: bytes) -> Iterator[bytes]:
    """Yield the value of each `data` line that has one. Raises `UndecodablePayload` where there are too many."""
    left = MAX_VALUES
    for line in _LINE.finditer(data.removeprefix(_BOM)):
        if line[0].startswith(_DATA) and (value := line[0][len(_DATA) :].strip()):
            left -= 1
            if left < 0:
                raise UndecodablePayload(_TOO_MANY)
            yield value


def changed(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Return the stream with what `change` makes of each JSON value, every other byte as it is.

    Raises `UndecodablePayload` where there are too many, and for a line that is no standard field and no short comment.
    """
    if data.count(_DATA) > MAX_VALUES or data.count(b"\n") + data.count(b"\r") > _MAX_ENDS:
        raise UndecodablePayload(_TOO_MANY)

    def line(found: re.Match[bytes]) -> bytes:
        value = found[0][len(_DATA) :].strip() if found[0].startswith(_DATA) else b""
        if value and value != DONE:
            return found[0].replace(value, change(value), 1)
        if not value and not _PLAIN.fullmatch(found[0]):
            raise UndecodablePayload("the event stream has a line of no known field")
        return found[0]

    bom = _BOM if data.startswith(_BOM) else b""
    return bom + _LINE.sub(line, data[len(bom) :])
