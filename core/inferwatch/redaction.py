"""What users do not want kept, taken out of events before anything is written.

Two kinds of rules. `headers.NAME` drops a logged request header, in any case, at any depth of the `metadata` attribute,
and the attribute of that name. A JSON path, `$.instances[*].ssn`, puts null in place of values in JSON bodies; every
other value stays as it was written. The steps of a path, in RFC 9535's words:

    .name  ['name']          a member           [*]  .*      every member or element
    [3]                      an element         [?@.name == 'ssn']   the elements (V2 tensors) whose member is that text

A body that a path cannot be applied to is withheld whole and stored as `null`: one that is no JSON (cut, broken,
compressed in a broken way, gRPC), that repeats a key, or whose V2 JSON is followed by binary tensors and has the first
field of the path. What identifies an event is computed afterwards, so that nothing of a withheld value enters the log;
of two events without a time that differ in withheld values alone, the second counts as a duplicate.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson

from inferwatch.errors import UndecodablePayload
from inferwatch.events import CloudEvent
from inferwatch.wire.decode import inflate

WITHHELD = b"null"
"""Stands for a body that could not be searched."""

ALLOWED_STEPS = "$ with steps .name ['name'] [*] [3] [?@.name == 'text']"

_STEP = re.compile(
    r"""\.(?P<name>[^.\[\]*'"\s]+) | \[\s*(?P<quoted>'[^']*'|"[^"]*")\s*\] | (?P<all>\.\*|\[\s*\*\s*\])
    | \[\s*(?P<index>-?\d+)\s*\]
    | \[\s*\?\(?\s*@\.(?P<key>\w+)\s*==\s*(?P<value>'[^']*'|"[^"]*")\s*\)?\s*\]""",
    re.VERBOSE,
)
_HEADER = re.compile(r"headers\.([!#$%&'*+.^_`|~0-9A-Za-z-]+)")
_IDENTITY = frozenset({"namespace", "inferenceservicename", "component", "endpoint", "metadata"})
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_DEPTH = 16


@dataclass(frozen=True, slots=True)
class _Step:
    """Finds the places in a container that a step of a path names; `name` is a text that must occur in the body."""

    places: Callable[[Any], Sequence[Any]]
    name: str = ""


class Redaction:
    """The rules, ready to be applied. Raises `ValueError` for a rule that cannot be read, with what is allowed."""

    def __init__(self, rules: Sequence[str] = ()) -> None:
        headers = [_HEADER.fullmatch(rule) for rule in rules]
        self._headers = frozenset(_plain(match[1]) for match in headers if match)
        self._paths = [_path(rule) for rule, match in zip(rules, headers, strict=True) if not match]
        self._names = [[step.name.encode() for step in path if step.name] for path in self._paths]

    def __bool__(self) -> bool:
        """Say whether there is any rule."""
        return bool(self._headers or self._paths)

    def event(self, event: CloudEvent) -> CloudEvent:
        """Return the event without what the rules name; the event itself where they name nothing in it."""
        if not self:
            return event
        extensions, data = self.attributes(event.extensions), self.body(event.data)
        if extensions == event.extensions and data is event.data:
            return event
        return replace(event, extensions=extensions, data=data)

    def attributes(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return attributes without the headers that are named; `metadata` that cannot be searched is dropped."""
        if not self._headers:
            return dict(attributes)
        kept = {
            name: value
            for name, value in attributes.items()
            if name.lower() in _IDENTITY or _plain(name) not in self._headers
        }
        for name in [name for name in kept if name.lower() == "metadata"]:
            metadata = self._metadata(kept.pop(name))
            if metadata is not None:
                kept[name] = metadata
        return kept

    def body(self, data: bytes) -> bytes:
        """Return a body with null for every value that a path names, `WITHHELD` for one that cannot be searched."""
        if not self._paths or not data or data.isspace():
            return data
        try:
            return self._searched(data)
        except (UndecodablePayload, ValueError, TypeError, RecursionError):
            return WITHHELD

    def _searched(self, data: bytes) -> bytes:
        plain = inflate(data) if data[:2] == _GZIP_MAGIC else data
        if self._is_innocent(plain):
            return data
        text = plain.decode("utf-8", "surrogateescape").lstrip()
        body, end = _DECODER.raw_decode(text)
        if text[end:].strip():
            binary = isinstance(body, dict) and ("inputs" in body or "outputs" in body)
            return data if binary and not any(path[0].places(body) for path in self._paths) else WITHHELD
        roots = [body]
        if isinstance(body, dict) and "specversion" in body:
            roots.append(body.get("data"))  # a body that is itself a CloudEvent is read by its data
        found = [_withhold(root, path) for root in roots for path in self._paths]
        return orjson.dumps(body) if any(found) else data

    def _is_innocent(self, plain: bytes) -> bool:
        """Say whether the body is JSON in which no path can end, since a name of each does not occur."""
        if b"\\u" in plain or not all(any(name not in plain for name in names) for names in self._names):
            return False
        try:
            orjson.loads(plain)
        except orjson.JSONDecodeError:
            return False
        return True

    def _metadata(self, value: Any) -> Any:  # noqa: ANN401 - text, or what an envelope has in its place
        try:
            logged = orjson.loads(value) if isinstance(value, str) else value
        except orjson.JSONDecodeError:
            return None
        if not isinstance(logged, dict):
            return value if logged is None else None
        public = self._public(logged, _MAX_DEPTH)
        if public == logged:
            return value
        return orjson.dumps(public).decode() if isinstance(value, str) else public

    def _public(self, value: Any, depth: int) -> Any:  # noqa: ANN401 - any JSON
        if isinstance(value, dict):
            named = value.items() if depth else ()
            return {name: self._public(item, depth - 1) for name, item in named if _plain(name) not in self._headers}
        if isinstance(value, list):
            return [self._public(item, depth - 1) for item in value] if depth else []
        return value


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "").replace("-", "")


def _path(rule: str) -> list[_Step]:
    steps: list[_Step] = []
    position = 1
    while rule.startswith("$") and (match := _STEP.match(rule, position)):
        steps.append(_step(match))
        position = match.end()
    if not steps or position < len(rule):
        raise ValueError(f"{rule!r}: a rule is `headers.NAME`, or a JSON path {ALLOWED_STEPS}")
    return steps


def _step(match: re.Match[str]) -> _Step:
    if match["all"]:
        return _Step(_every)
    if match["index"]:
        return _Step(partial(_element, int(match["index"])))
    if match["key"]:
        key, text = match["key"], match["value"][1:-1]
        return _Step(lambda value: [place for place in _every(value) if _member(value[place], key) == text], key)
    name = match["name"] or match["quoted"][1:-1]
    return _Step(lambda value: [name] if isinstance(value, dict) and name in value else [], _spelt(name))


def _spelt(name: str) -> str:
    """Return the name where JSON can only spell it like this, or by escapes of `u`; else nothing."""
    return name if name.isalnum() and name.isascii() else ""


def _every(value: Any) -> Sequence[Any]:  # noqa: ANN401 - any JSON
    if isinstance(value, dict):
        return list(value)
    return range(len(value)) if isinstance(value, list) else ()


def _element(index: int, value: Any) -> Sequence[int]:  # noqa: ANN401 - any JSON
    return [index] if isinstance(value, list) and -len(value) <= index < len(value) else []


def _member(value: Any, key: str) -> Any:  # noqa: ANN401 - any JSON
    return value.get(key) if isinstance(value, dict) else None


def _withhold(value: Any, path: Sequence[_Step]) -> bool:  # noqa: ANN401 - any JSON
    """Put null where the path leads; say whether it led anywhere."""
    step, *rest = path
    found = False
    for place in step.places(value):
        if rest:
            found |= _withhold(value[place], rest)
        else:
            value[place], found = None, True
    return found


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(members)
    if len(named) < len(members):
        raise ValueError("a key is repeated")
    return named


def _verbatim(number: str) -> orjson.Fragment:
    return orjson.Fragment(number)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_verbatim, parse_int=_verbatim, parse_constant=_verbatim
)
