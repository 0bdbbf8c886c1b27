"""JSON paths that name values in bodies: `$` and steps, in RFC 9535's words.

.name  ['name']          a member           [*]  .*      every member or element
[3]                      an element         [?@.name == 'ssn']   the elements (V2 tensors) whose member is that text

A path is followed in the text itself: what it does not lead to is passed over by regular expressions that never go
back, so that the cost is linear in the text and no other byte changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import orjson

ALLOWED_STEPS: Final = "$ with steps .name ['name'] [*] [3] [?@.name == 'text']"

MAX_DEPTH: Final = 32
"""Paths are not followed in lists and objects that hold more levels of others than this."""

_STEP: Final = re.compile(
    r"""\.(?P<name>[^.\[\]*'"\s]+) | \[\s*(?P<quoted>'[^']*'|"[^"]*")\s*\] | (?P<all>\.\*|\[\s*\*\s*\])
    | \[\s*(?P<index>-?\d+)\s*\]
    | \[\s*\?\(?\s*@\.(?P<key>\w+)\s*==\s*(?P<value>'[^']*'|"[^"]*")\s*\)?\s*\]""",
    re.VERBOSE,
)

_ESCAPED: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)++"'
_TEXT: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'


def _nested(levels: int) -> bytes:
    """Return the expression of a list or an object with so many levels of others in it."""
    inner = b"|" + _nested(levels - 1) if levels else b""
    return rb'[\[{][^"\[\]{}]*+(?:(?:%s%s)[^"\[\]{}]*+)*+[\]}]' % (_TEXT, inner)


_NESTED: Final = _nested(MAX_DEPTH)
_VALUE: Final = rb'[^\s,"\[\]{}]++|%s|%s' % (_TEXT, _NESTED)


def _split(passed: bytes, name: bytes) -> re.Pattern[bytes]:
    """Return what splits all between two brackets: what is passed over, name and value, or (too deep) the rest."""
    return re.compile(rb"(?!\Z)(%s)(?:(%s)(%s)|(.*))" % (passed, name, _VALUE), re.DOTALL)


_MEMBER: Final = _split(rb"[\s,]*+", rb"(?:%s\s*+:\s*+)?+" % _TEXT)


@dataclass(frozen=True, slots=True)
class _Step:
    """Splits what is between brackets as `_split` has it, and chooses among the values.

    `name` is a text that must occur in the body.
    """

    chosen: Callable[[Sequence[bytes], Sequence[bytes]], Iterable[int]]
    split: re.Pattern[bytes] = _MEMBER
    opens: bytes = b"[{"
    name: str = ""


class JsonPath:
    """A path, ready to be followed in JSON. Raises `ValueError` for a text that is none.

    So do the methods where JSON is nested too deeply. Members that an object repeats are all meant.
    """

    def __init__(self, text: str) -> None:
        steps: list[_Step] = []
        position = 1
        while text.startswith("$") and (match := _STEP.match(text, position)):
            steps.append(_step(match))
            position = match.end()
        if not steps or position < len(text):
            raise ValueError(f"{text!r} is no JSON path; allowed is {ALLOWED_STEPS}")
        self._steps = steps
        self._names = [step.name.encode() for step in steps if step.name]

    def may_lead_into(self, text: bytes) -> bool:
        """Say whether all of the names occur in JSON, or may."""
        return b"\\u" in text or all(name in text for name in self._names)

    def values(self, text: bytes, steps: int | None = None) -> list[bytes]:
        """Return every value that the path leads to, or so many of its first steps, as it is spelt."""
        return _found(text.strip(), self._steps[:steps])

    def changed(self, text: bytes, change: Callable[[bytes], bytes], below: JsonPath | None = None) -> bytes:
        """Return JSON with what `change` makes of every value, from what `below` leads to on; all else as it was."""
        steps = [*below._steps, *self._steps] if below else self._steps
        value = text.strip()
        changed = _changed(value, steps, change)
        return text if changed == value else text.replace(value, changed, 1)


def _changed(text: bytes, steps: Sequence[_Step], change: Callable[[bytes], bytes]) -> bytes:
    step, *further = steps
    if text[:1] not in step.opens:
        return text
    inner = text[1:-1]
    if text[:1] == b"[" and not (b"[" in inner or b"{" in inner or b'"' in inner):
        return text if further else _changed_numbers(text, step, change)
    pieces = step.split.split(inner)  # what is passed over, name, value, the rest, and nothing, again and again
    if any(pieces[4::5]):
        raise ValueError(f"the JSON is nested deeper than {MAX_DEPTH} levels")
    values = pieces[3::5]
    if values and values[-1] is None:
        values.pop()
    for place in step.chosen(pieces[2::5], values):
        pieces[5 * place + 3] = _changed(values[place], further, change) if further else change(values[place])
    return b"".join((text[:1], *filter(None, pieces), text[-1:]))


def _changed_numbers(text: bytes, step: _Step, change: Callable[[bytes], bytes]) -> bytes:
    """Return a list without texts and other lists, which commas split: a third of the time."""
    values = text[1:-1].split(b",")
    for place in step.chosen((), values):
        if value := values[place].strip():  # there is none in an empty list
            values[place] = values[place].replace(value, change(value), 1)
    return b"[%b]" % b",".join(values)


def _found(text: bytes, steps: Sequence[_Step]) -> list[bytes]:
    found: list[bytes] = []

    def noted(value: bytes) -> bytes:
        found.append(value)
        return value

    _changed(text, steps, noted)
    return found


def _step(match: re.Match[str]) -> _Step:
    if match["all"]:
        return _Step(lambda _, values: range(len(values)))
    if match["index"]:
        index = int(match["index"])
        return _Step(lambda _, values: [index % len(values)] if -len(values) <= index < len(values) else [], opens=b"[")
    if match["key"]:
        key, text = [_named(match["key"])], match["value"][1:-1]
        return _Step(
            lambda _, values: [
                place for place, value in enumerate(values) if any(_says(own, text) for own in _found(value, key))
            ],
            name=_spelt(match["key"]),
        )
    return _named(match["name"] or match["quoted"][1:-1])


@lru_cache(64)
def _named(name: str) -> _Step:
    """Return the step that passes over all members but those of that name, and those whose names have escapes."""
    likely = rb"(?:%s|%s)\s*+:\s*+" % (re.escape(orjson.dumps(name)), _ESCAPED)
    passed = rb'[^"\[\]{}]*+(?:(?:(?!%s)%s|%s)[^"\[\]{}]*+)*+' % (likely, _TEXT, _NESTED)
    return _Step(
        lambda names, values: [
            place for place, own in enumerate(names[: len(values)]) if _says(own.rstrip(b": \t\r\n"), name)
        ],
        _split(passed, likely),
        b"{",
        _spelt(name),
    )


def _says(raw: bytes, text: str) -> bool:
    return raw[:1] == b'"' and (orjson.loads(raw) if b"\\" in raw else raw[1:-1].decode()) == text


def _spelt(name: str) -> str:
    """Return the name where JSON can only spell it like this, or by escapes of `u`; else nothing."""
    return name if name.isalnum() and name.isascii() else ""
