"""Heads of HTTP/1.1 messages: what is passed on, and what they say about the message.

Field names, values, repetitions and order stay as they came. Left out are the fields that concern one connection alone
(RFC 9110, 7.6.1): `Connection` and what it names, `Keep-Alive`, `Proxy-Connection`, `Proxy-Authenticate`,
`Proxy-Authorization`, `TE`, `Upgrade`; and `Transfer-Encoding`, unless its last coding is `chunked`, which is how the
body is passed on too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_to_bytes

JSON: Final = b"application/json"

RawFields = Sequence[tuple[bytes, bytes]]

_ONE_CONNECTION: Final = frozenset(
    {b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"upgrade"}
)
_TOLD: Final = _ONE_CONNECTION | {b"connection", b"transfer-encoding", b"content-length", b"expect"}
_KEPT: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"close"})
"""What `Connection` cannot take out: how far the body goes, and for whom the request is."""

_CONTINUE: Final = b"100-continue"


@dataclass(slots=True)
class Fields:
    """Header fields: `lines` to pass on; `lowered` for capture, names in lower case; and what they say."""

    lines: list[bytes]
    lowered: list[tuple[bytes, bytes]]
    connection: frozenset[bytes] = frozenset()
    chunked: bool = False
    length: bool = False
    expects: bool = False
    upgrade: bytes = b""


def read_fields(given: RawFields) -> Fields:
    """Return what to pass on of the fields as they came."""
    lines: list[bytes] = []
    lowered: list[tuple[bytes, bytes]] = []
    fields = Fields(lines, lowered)
    for name, value in given:
        lower = name.lower()
        lowered.append((lower, value))
        if lower not in _TOLD or _told(fields, lower, value):
            lines.append(b"%b: %b\r\n" % (name, value))
    named = fields.connection - _KEPT
    if named:
        fields.lines = [line for line in lines if line[: line.index(b":")].lower() not in named]
    return fields


def _told(fields: Fields, name: bytes, value: bytes) -> bool:
    """Note what a field says; return whether it is passed on."""
    if name == b"content-length":
        fields.length = True
    elif name == b"transfer-encoding":
        fields.chunked = tokens(value)[-1:] == [b"chunked"]
        return fields.chunked
    elif name == b"expect":
        fields.expects = value.strip().lower() == _CONTINUE
    elif name == b"connection":
        fields.connection |= frozenset(tokens(value))
        return False
    else:
        if name == b"upgrade":
            fields.upgrade = value.strip().lower()
        return False
    return True


def tokens(value: bytes) -> list[bytes]:
    """Return the members of a comma-separated list, in lower case."""
    return [token.strip().lower() for token in value.split(b",")]


def path_of(target: bytes) -> str:
    """Return the decoded path of a request target, its query left out."""
    if not target.startswith(b"/") and b"://" in target:
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    path = target.partition(b"?")[0]
    return (unquote_to_bytes(path) if b"%" in path else path).decode("utf-8", "replace")


def own_reply(status: int, body: bytes, content_type: bytes, *, close: bool, bodiless: bool = False) -> bytes:
    """Return a whole response of the proxy's own; `bodiless` for the answer to HEAD."""
    phrase = HTTPStatus(status).phrase.encode("ascii")
    persistence = b"Connection: close\r\n" if close else b""
    head = b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n"
    return head % (status, phrase, content_type, len(body), persistence) + (b"" if bodiless else body)


def own_error(status: int, why: str, *, close: bool) -> bytes:
    """Return a whole response that says what went wrong, in one sentence."""
    return own_reply(status, error_body(why), JSON, close=close)


def error_body(why: str) -> bytes:
    """Return the body of an error."""
    return json.dumps({"error": why}).encode()
