"""Whether bytes are JSON, and where that ends, for who does not want its values. Imports nothing heavy: captures do."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

import orjson

from inferwatch.errors import UndecodablePayload

LARGE_BYTES: Final = 4096
"""Longer texts are read by simdjson, which makes no lists."""

BINARY_MARK: Final = b'"binary_data_size"'
"""Occurs in every V2 body that has binary tensors behind its JSON."""

_BOM: Final = b"\xef\xbb\xbf"
_WORDS: Final = (b"-Infinity", b"Infinity", b"NaN")
_OBJECT: Final = re.compile(rb"[ \t\r\n]*+\{")
_NEXT: Final = re.compile(rb'[{}]|"(?:[^"\\]++|\\.)*+"?+', re.DOTALL)
"""What an object begins or ends with, or a text, whose brackets are none."""


def check(data: bytes) -> None:
    """Raise `UndecodablePayload` for what is no JSON in UTF-8; `NaN` and `Infinity` may be in it, as tools write them.

    An integer beyond 64 bits has simdjson give way to a parser that makes lists, as where there is no simdjson.
    """
    for word in _WORDS:
        data = data.replace(word, b" 0 ")  # blanks, lest what is broken become valid: `1NaN`
    with suppress(ImportError, ValueError, RuntimeError):  # there is no wheel for every interpreter
        if len(data) > LARGE_BYTES and not data.startswith(_BOM):  # which simdjson passes over
            from simdjson import Parser  # a model server loads it with its first large body

            Parser().parse(data)
            return
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UndecodablePayload(f"the body is no JSON: {error}") from error


def split(data: bytes) -> tuple[bytes, memoryview]:
    """Return the JSON object that a body begins with, and what follows it. Raises `UndecodablePayload`.

    The cost is linear in the JSON; the tail is not looked at.
    """
    begin = _OBJECT.match(data)
    depth = 1
    for found in _NEXT.finditer(data, begin.end()) if begin is not None else ():
        depth += {b"{": 1, b"}": -1}.get(found[0], 0)
        if depth == 0:
            return data[: found.end()], memoryview(data)[found.end() :]
    raise UndecodablePayload("the JSON before the binary tensors is broken: it is no object, or one without an end")
