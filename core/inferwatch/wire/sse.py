"""Server-sent events, as a logged stream has them: every event of the reply, one behind the other.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html. Each `data` line is taken as a value of its own:
model servers write one JSON value a line, and some leave out the empty line between two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from inferwatch.errors import UndecodablePayload

MAX_VALUES: Final = 250_000
"""A body of more values than this is not decoded."""

_LINE: Final = re.compile(rb"[^\r\n]+")
_BOM: Final = b"\xef\xbb\xbf"
_FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")


def is_stream(data: bytes) -> bool:
    """Return whether a body begins as an event stream does."""
    return data[:64].removeprefix(_BOM).lstrip(b"\r\n").startswith(_FIELDS)


def values(data: bytes) -> Iterator[bytes]:
    """Yield the value of each `data` line that has one. Raises `UndecodablePayload` where there are too many."""
    left = MAX_VALUES
    for line in _LINE.finditer(data.removeprefix(_BOM)):
        if line[0].startswith(b"data:") and (value := line[0][5:].strip()):
            left -= 1
            if left < 0:
                raise UndecodablePayload(f"the event stream has more than {MAX_VALUES} values")
            yield value
