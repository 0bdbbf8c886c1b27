"""What users do not want kept, taken out of events before anything is written.

Two kinds of rules. `headers.NAME`, or `{header: NAME}`, is about a logged request header, in any case, at any depth of
the `metadata` attribute, and the attribute of that name. A JSON path (`inferwatch.json_path`), `$.instances[*].ssn` or
`{path: "$.instances[*].ssn"}`, is about values in JSON bodies; every other value stays as it was written. What becomes
of them says `action`:

    drop (unless given)      the header goes, null stands for the value
    hash                     HMAC-SHA256 under the key in `key_file`: equal values stay equal
    mask                     `****`, and the last four characters of a long text or number

A body that a path cannot be applied to is withheld whole and stored as `null`: one that is no JSON (cut, broken,
compressed in a broken way, gRPC), that repeats a key, or whose V2 JSON is followed by binary tensors and has the first
field of the path. What identifies an event is computed afterwards, so that nothing of a withheld value enters the log;
of two events without a time that differ in withheld values alone, the second counts as a duplicate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson

from inferwatch.errors import UndecodablePayload
from inferwatch.events import CloudEvent
from inferwatch.redaction_rules import Rule
from inferwatch.wire.compression import GZIP_MAGIC, inflate

WITHHELD = b"null"
"""Stands for a body that could not be searched."""

_IDENTITY = frozenset({"namespace", "inferenceservicename", "component", "endpoint", "metadata"})
_MAX_DEPTH = 16
_DROPPED = object()


class Redaction:
    """The rules, ready to be applied. Raises `ValueError` for a rule that cannot be used, with what is allowed."""

    def __init__(self, rules: Sequence[str | Mapping[str, Any] | Rule] = ()) -> None:
        read = [(rule, rule.change()) for rule in map(Rule.of, rules)]
        self._headers = {_plain(rule.header): change for rule, change in reversed(read) if rule.header is not None}
        self._paths = [(rule.path, change or _null) for rule, change in read if rule.path is not None]

    def __bool__(self) -> bool:
        """Say whether there is any rule."""
        return bool(self._headers or self._paths)

    @property
    def searches_bodies(self) -> bool:
        """Whether any rule is about bodies."""
        return bool(self._paths)

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
        if self._is_innocent(plain):
            return data
        body, rest = _parsed(plain)
        if rest:
            binary = isinstance(body, dict) and ("inputs" in body or "outputs" in body)
            return data if binary and not any(path.starts_in(body) for path, _ in self._paths) else WITHHELD
        roots = [body]
        if isinstance(body, dict) and "specversion" in body:
            roots.append(body.get("data"))  # a body that is itself a CloudEvent is read by its data
        found = [path.replace(root, change) for root in roots for path, change in self._paths]
        return orjson.dumps(body) if any(found) else data

    def _is_innocent(self, plain: bytes) -> bool:
        """Say whether the body is JSON in which no path can end, since a name of each does not occur."""
        if b"\\u" in plain or not all(any(name not in plain for name in path.names) for path, _ in self._paths):
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


def _null(_: Any) -> None:  # noqa: ANN401 - any JSON
    return None


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(members)
    if len(named) < len(members):
        raise ValueError("a key is repeated")
    return named


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=orjson.Fragment, parse_int=orjson.Fragment, parse_constant=orjson.Fragment
)
"""Keeps numbers as they are written."""


def _parsed(plain: bytes) -> tuple[Any, str]:
    """Return JSON that orjson writes as it was but for what is changed in it, and the text behind it."""
    with suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):
        body = orjson.loads(plain)
        if orjson.dumps(body) == plain:
            return body, ""
    text = plain.decode("utf-8", "surrogateescape").lstrip()
    body, end = _DECODER.raw_decode(text)
    return body, text[end:].strip()
