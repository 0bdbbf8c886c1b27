"""The dead letter: what came and was no event, kept for whoever wants to know what sends it.

One JSON object a line: `time`, `reason` (a word), `error` (a sentence), `attributes` and `body` (text where it is
UTF-8, else `{"base64": ...}`; `truncated: true` beside a body that was cut). Credentials are left out: attributes of
secret names, secret headers inside `metadata`, and the whole body where it is an envelope that cannot be parsed and may
hold one; the body is then null and `withheld` true. Rules of redaction hold here as they do for events, and where there
are any, such an envelope is always withheld.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from inferwatch.clock import Clock, SystemClock, format_time
from inferwatch.errors import InvalidEvent
from inferwatch.payload_log.database import translated
from inferwatch.redaction import Redaction
from inferwatch.wire.privacy import is_secret, public_metadata

logger = logging.getLogger(__name__)

FILE_NAME = "dead-letter.jsonl"

MAX_BODY_BYTES = 65536
"""A record keeps so much of a body."""

MAX_FILE_BYTES = 64 * 1024 * 1024
"""At this size the file becomes `dead-letter.jsonl.1`, in place of the one before: at most twice this is kept."""

_MAX_ATTRIBUTES = 64
_MAX_TEXT = 4096


class DeadLetter:
    """Appends records to a directory's dead-letter file. Thread-safe.

    A record that cannot be written is counted in `lost`, and logged: the sender is answered all the same.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock | None = None,
        max_file_bytes: int = MAX_FILE_BYTES,
        redaction: Redaction | None = None,
    ) -> None:
        self.path = directory / FILE_NAME
        self.lost = 0
        self._clock = clock or SystemClock()
        self._max_file_bytes = max_file_bytes
        self._redaction = redaction or Redaction()
        self._lock = threading.Lock()

    def keep(self, fault: InvalidEvent, attributes: Mapping[str, Any], body: bytes, *, envelope: bool = False) -> None:
        """Write one record. `envelope` says that the body holds attributes too, in a form that nobody could parse."""
        record = {
            "time": format_time(self._clock.now_ns()),
            "reason": fault.reason,
            "error": str(fault)[:_MAX_TEXT],
            "attributes": _public(self._redaction.attributes(attributes)),
            **(self._envelope(body) if envelope else _body(self._redaction.body(body))),
        }
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
        with self._lock:
            try:
                with translated(self.path):
                    self._append(line)
            except OSError as error:
                self.lost += 1
                logger.warning("a dead letter is lost: %s", error)

    def _envelope(self, body: bytes) -> dict[str, Any]:
        text = body[:MAX_BODY_BYTES].decode("utf-8", "replace")
        if self._redaction or public_metadata(text) != text:
            return {"body": None, "withheld": True}
        return _body(body)

    def _append(self, line: bytes) -> None:
        with self.path.open("ab", buffering=0) as file:
            written = file.write(line)
            size_bytes = file.tell()
            if written < len(line):  # the disk is full: leave whole lines behind
                file.truncate(size_bytes - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if size_bytes >= self._max_file_bytes:
            self.path.replace(self.path.with_name(f"{FILE_NAME}.1"))


def _public(attributes: Mapping[str, Any]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for name, value in attributes.items():
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        if name.lower() == "metadata" or isinstance(value, dict | list):
            text = public_metadata(text) or ""
        if not is_secret(name) and len(kept) < _MAX_ATTRIBUTES:
            kept[name[:_MAX_TEXT]] = text[:_MAX_TEXT]
    return kept


def _body(body: bytes) -> dict[str, Any]:
    kept = body[:MAX_BODY_BYTES]
    try:
        content: Any = kept.decode()
    except UnicodeDecodeError as error:
        cut_inside_a_character = len(kept) < len(body) and error.start > len(kept) - 4
        content = kept[: error.start].decode() if cut_inside_a_character else {"base64": b64encode(kept).decode()}
    return {"body": content, "truncated": True} if len(kept) < len(body) else {"body": content}
