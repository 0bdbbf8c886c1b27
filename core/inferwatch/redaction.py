"""What users do not want kept, taken out of events before anything is written.

Two kinds of rules. `headers.NAME`, or `{header: NAME}`, is about a logged request header, in any case, at any depth of
the `metadata` attribute, and the attribute of that name. A JSON path (`inferwatch.json_path`), `$.instances[*].ssn` or
`{path: "$.instances[*].ssn"}`, is about values in JSON bodies; every other value stays as it was written. What becomes
of them says `action`:

    drop (unless given)      the header goes, null stands for the value
    hash                     HMAC-SHA256 under the key in `key_file`: equal values stay equal
    mask                     `****`, and the last four characters of a long text or number

Paths are followed in the text of a body (`json_path`), or of each value of an event stream. No other byte changes, and
no array becomes a list. Of members that an object repeats each is meant.

A body that a path cannot be applied to is withheld whole and stored as `null`: one that is no JSON (cut, broken,
compressed in a broken way, gRPC), that is nested more deeply than paths go, or where a path leads to a tensor
whose values are bytes behind the JSON. What identifies an event is computed afterwards, so that nothing of a withheld
value enters the log; of two events without a time that differ in withheld values alone, the second counts as a
duplicate.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from inferwatch.errors import UndecodablePayload
from inferwatch.events import CloudEvent
from inferwatch.json_path import JsonPath
from inferwatch.redaction_rules import Change, Rule
from inferwatch.wire import sse
from inferwatch.wire.compression import GZIP_MAGIC, inflate
from inferwatch.wire.json_text import BINARY_MARK, check, split

WITHHELD = b"null"
"""Stands for a body that could not be searched."""

_IDENTITY = frozenset({"namespace", "inferenceservicename", "component", "endpoint", "metadata"})
_MAX_DEPTH = 16
_LARGE_BYTES = 32_768
_DROPPED = object()


class Redaction:
    """The rules, ready to be applied. Raises `ValueError` for a rule that cannot be used, with what is allowed."""

    def __init__(self, rules: Sequence[str | Mapping[str, Any] | Rule] = ()) -> None:
        read = [(rule, rule.change()) for rule in map(Rule.of, rules)]
        self._headers = {_plain(rule.header): change for rule, change in reversed(read) if rule.header is not None}
        self._paths = [(rule.path, _rewriting(change)) for rule, change in read if rule.path is not None]

    def __bool__(self) -> bool:
        """Say whether there is any rule."""
        return bool(self._headers or self._paths)

    @property
    def searches_bodies(self) -> bool:
        """Whether any rule is about bodies."""
        return bool(self._paths)

    def takes_long(self, data: bytes) -> bool:
        """Say whether searching a body, or a message with bodies, may take more than a few milliseconds."""
        return self.searches_bodies and (len(data) > _LARGE_BYTES or data[:2] == GZIP_MAGIC)

    def event(self, event: CloudEvent) -> CloudEvent:
        """Return the event without what the rules name; the event itself where they name nothing in it."""
        if not self:
            return event
        extensions, data = self.attributes(event.extensions), self.body(event.data)
        if extensions == event.extensions and data is event.data:
            return event
        return replace(event, extensions=extensions, data=data)

    def attributes(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return attributes with the headers as the rules want them; `metadata` that cannot be searched is dropped."""
        if not self._headers:
            return dict(attributes)
        kept = {}
        for name, value in attributes.items():
            if name.lower() in _IDENTITY or _plain(name) not in self._headers:
                kept[name] = value
            elif (change := self._headers[_plain(name)]) is not None:
                kept[name] = change(value)
        for name in [name for name in kept if name.lower() == "metadata"]:
            metadata = self._metadata(kept.pop(name))
            if metadata is not None:
                kept[name] = metadata
        return kept

    def body(self, data: bytes) -> bytes:
        """Return a body with its values as the rules want them, `WITHHELD` for one that cannot be searched."""
        if not self._paths or not data or data.isspace():
            return data
        try:
            return self._searched(data)
        except (UndecodablePayload, ValueError, TypeError, RecursionError):
            return WITHHELD

    def _searched(self, data: bytes) -> bytes:
        plain = inflate(data) if data[:2] == GZIP_MAGIC else data
        if sse.is_stream(plain):
            kept = sse.changed(plain, self._replaced)
            return data if kept == plain else kept
        text, tail = split(plain) if BINARY_MARK in plain else (plain, b"")
        kept = self._replaced(text)
        if bytes(tail).strip() and self._may_name(text):
            return WITHHELD
        return data if kept == text else b"".join((kept, tail))

    def _replaced(self, text: bytes) -> bytes:
        check(text)
        kept = text
        for path, change in self._paths:
            if path.may_lead_into(kept):
                kept = path.changed(kept, change)
                if _VERSION.may_lead_into(kept) and _VERSION.values(kept):  # itself a CloudEvent: read by its data
                    kept = path.changed(kept, change, below=_DATA)
        return kept

    def _may_name(self, text: bytes) -> bool:
        """Say whether a path leads to a tensor whose values stand behind the JSON; so does any where there is none."""
        named = [tensor for path, _ in self._paths for tensor in path.values(text, _TO_TENSORS)]
        return not any(path.values(text) for path in _TENSORS) or any(map(_BINARY.search, named))

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
            members = ((name, self._member(name, item, depth - 1)) for name, item in value.items() if depth)
            return {name: item for name, item in members if item is not _DROPPED}
        if isinstance(value, list):
            return [self._public(item, depth - 1) for item in value] if depth else []
        return value

    def _member(self, name: str, value: Any, depth: int) -> Any:  # noqa: ANN401 - any JSON
        if _plain(name) not in self._headers:
            return self._public(value, depth)
        change = self._headers[_plain(name)]
        if change is None:
            return _DROPPED
        return [change(one) for one in value] if isinstance(value, list) else change(value)


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "").replace("-", "")


_BLANKS = b" \t\r\n"
_LIST = re.compile(rb'("(?:[^"\\]++|\\.)*+")|\[[^"\[\]{}]*+\]', re.DOTALL)
"""A text, or a list without texts and other lists."""

_VERSION, _DATA = JsonPath("$.specversion"), JsonPath("$.data")
_TENSORS = JsonPath("$.inputs"), JsonPath("$.outputs")
_TO_TENSORS = 2
"""Steps, as in `$.inputs[*]`."""
_BINARY = re.compile(rb"%s|\\u" % re.escape(BINARY_MARK))


def _rewriting(change: Change | None) -> Callable[[bytes], bytes]:
    """Return what makes JSON of JSON: null, unless there is something else that is to become of a value."""
    return (lambda _: b"null") if change is None else lambda raw: orjson.dumps(change(_value(raw)))


def _value(raw: bytes) -> Any:  # noqa: ANN401 - any JSON
    """Return a value that orjson writes with its numbers, and lists of them, as they were but for blanks."""
    if raw[:1] == b"[" and b'"' not in raw:
        return [orjson.Fragment(raw[1:-1].translate(None, _BLANKS))]
    if raw[:1] not in b"[{":
        return orjson.loads(raw) if raw[:1] in b'"tfn' else orjson.Fragment(raw)
    lists: dict[str, bytes] = {}
    mark = secrets.randbits(128)

    def kept(found: re.Match[bytes]) -> bytes:
        if found[1]:
            return found[1]
        number = f"{mark}{len(lists)}"
        lists[number] = found[0].translate(None, _BLANKS)
        return number.encode()

    def spelt(number: str) -> orjson.Fragment:
        return orjson.Fragment(lists.get(number, number))

    text = _LIST.sub(kept, raw).decode()
    return json.JSONDecoder(parse_float=spelt, parse_int=spelt, parse_constant=spelt).decode(text)
