"""Whether bytes are JSON, and where that ends, for who does not want its values. Imports nothing heavy: captures do."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

import orjson

from inferwatch.errors import UndecodablePayload

LARGE_BYTES: Final = 4096
"""Of longer texts, no list of numbers is made."""

BINARY_MARK: Final = b'"binary_data_size"'
"""Occurs in every V2 body that has binary tensors behind its JSON."""

_BOM: Final = b"\xef\xbb\xbf"
_WORDS: Final = (b"-Infinity", b"Infinity", b"NaN")
_OBJECT: Final = re.compile(rb"[ \t\r\n]*+\{")
_NEXT: Final = re.compile(rb'[{}]|"(?:[^"\\]++|\\.)*+"?+', re.DOTALL)
"""What an object begins or ends with, or a text, whose brackets are none."""

_BLANKS: Final = rb"[ \t\r\n]*+"
_CELL: Final = rb"(?:-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+|null|true|false|\[\])" + _BLANKS
_CELLS: Final = re.compile(rb"\[%s%s(?:,%s%s)*+\]" % (_BLANKS, _CELL, _BLANKS, _CELL))
_LEVELS: Final = 4
"""How deep lists of numbers in lists are left out."""


def check(data: bytes) -> None:
    """Raise `UndecodablePayload` for what is no JSON in UTF-8; `NaN` and `Infinity` may be in it, as tools write."""
    for word in _WORDS:
        data = data.replace(word, b" 0 ")  # blanks, lest what is broken become valid: `1NaN`
    if len(data) > LARGE_BYTES:
        with suppress(ImportError, ValueError, RuntimeError):  # there is no wheel for every interpreter
            if not data.startswith(_BOM):  # which simdjson passes over
                from simdjson import Parser  # a model server loads it with its first large body

                Parser().parse(data)
                return
        data = _without_numbers(data)  # which may be more than the 64 bits that simdjson takes
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UndecodablePayload("the body is no JSON") from error


def _without_numbers(data: bytes) -> bytes:
    """Return text with an empty list for each list of numbers, and of such lists.

    It is JSON if, and only if, the text is: within a text, too, where no escape ends in what stands for a list.
    """
    for _ in range(_LEVELS):
        shorter = _CELLS.sub(b"[]", data)
        if len(shorter) == len(data):
            break
        data = shorter
    return data


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
