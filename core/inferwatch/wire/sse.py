"""Server-sent events, as a logged stream has them: every event of the reply, one behind the other.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html. Each `data` line is taken as a value of its own:
model servers write one JSON value a line, and some leave out the empty line between two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")


def is_stream(data: bytes) -> bool:
    """Return whether a body begins as an event stream does."""
    return data[:64].removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n").startswith(_FIELDS)


def values(data: bytes) -> Iterator[bytes]:
    """Yield the value of each `data` line that has one."""
    for line in data.removeprefix(b"\xef\xbb\xbf").splitlines():
        if line.startswith(b"data:") and (value := line[5:].strip()):
            yield value
