"""Attributes of a CloudEvent, as text by their names, to the event that they make: the rules that every form shares.

What identifies an event (specversion, id, source, type, time, attribute names) is read strictly:

- control characters and other code points that the CloudEvents type system bans are a fault in id, source and type;
  elsewhere each becomes U+FFFD;
- a time must fit 64-bit nanoseconds (years 1678 to 2262);
- secret headers leave `metadata` here (`privacy`), and extensions of such a name are dropped;
- an extension `truncated` with the value `true` says that the sender cut the body.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from inferwatch.clock import parse_time
from inferwatch.errors import Fault, InvalidEvent
from inferwatch.events import CloudEvent
from inferwatch.wire.privacy import is_secret, public_metadata

CONTEXT: Final = frozenset({"specversion", "id", "source", "type", "time", "datacontenttype"})
"""The attributes that are no extensions."""

_IDENTITY: Final = ("id", "source", "type")
_REQUIRED: Final = ("specversion", *_IDENTITY)
_NAME: Final = re.compile(r"[a-z0-9]+")
_BANNED: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_INT64: Final = 2**63


class Faults(list[Fault]):
    """Faults as they are found; the first one names the reason."""

    reason = ""

    def note(self, reason: str, path: str, message: str) -> None:
        """Add a fault."""
        self.reason = self.reason or reason
        self.append(Fault(path, message))


def from_attributes(texts: Sequence[tuple[str, str]], data: bytes) -> CloudEvent | InvalidEvent:
    """Return the event of attributes, by their CloudEvents names, and its data; or every fault of what is none."""
    faults = Faults()
    attributes = dict(texts)
    if len(attributes) < len(texts):
        attributes = merged(texts, faults)
    try:
        return event_of(attributes, data, False, faults)
    except InvalidEvent as invalid:
        return invalid


def event_of(attributes: dict[str, str], data: bytes, truncated: bool, faults: Faults) -> CloudEvent:
    """Return the event of attributes and its data. Raises `InvalidEvent` with the faults, those given too."""
    get = attributes.get
    if get("specversion") != "1.0" or not (get("id") and get("source") and get("type")):
        _note_identity(attributes, faults)
    if not "".join(attributes.values()).isprintable():
        attributes = _cleaned(attributes, faults)
    time_ns = _time(get("time"), faults)
    extensions = _extensions(attributes, faults)
    if faults:
        raise InvalidEvent(faults, faults.reason)
    if extensions.get("truncated") == "true":
        truncated = True
    return CloudEvent(
        attributes["id"],
        attributes["source"],
        attributes["type"],
        time_ns,
        attributes.get("datacontenttype") or None,
        extensions,
        data,
        truncated,
    )


def as_texts(pairs: Sequence[tuple[str, bytes]]) -> list[tuple[str, str]]:
    """Return attributes with their values as text: UTF-8, or else Latin-1."""
    try:
        return [(name, value.decode()) for name, value in pairs]
    except UnicodeDecodeError:
        return [(name, header_text(value)) for name, value in pairs]


def merged(texts: Iterable[tuple[str, str]], faults: Faults) -> dict[str, str]:
    """Return attributes by their names; one that is given twice with different values is noted as a fault."""
    attributes: dict[str, str] = {}
    for name, text in texts:
        if attributes.setdefault(name, text) != text:
            faults.note("duplicate_attribute", name[:64], "is given twice with different values")
    return attributes


def header_text(value: bytes) -> str:
    """Return a header's value, read as UTF-8, else as Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _note_identity(attributes: Mapping[str, str], faults: Faults) -> None:
    version = attributes.get("specversion")
    if version is not None and version != "1.0":
        faults.note("bad_specversion", "specversion", f"{version[:16]!r} is not supported; 1.0 is")
    for name in _REQUIRED:
        if name not in attributes:
            faults.note("missing_attribute", name, "is missing")
        elif not attributes[name]:
            faults.note("missing_attribute", name, "is empty")


def _cleaned(attributes: Mapping[str, str], faults: Faults) -> dict[str, str]:
    for name in _IDENTITY:
        if _BANNED.search(attributes.get(name, "")):
            faults.note("bad_character", name, "holds a control character or another that CloudEvents bans")
    return {name: _BANNED.sub("\ufffd", value) for name, value in attributes.items()}


def _time(text: str | None, faults: Faults) -> int | None:
    if text is None:
        return None
    try:
        if text[19:20] == "." and text[-1] == "Z" and text.isascii() and text[20:-1].isdigit():
            instant = _second(text[:19]) + int(text[20:29].rstrip("Z").ljust(9, "0"))
        else:
            instant = parse_time(text)
    except ValueError as error:
        faults.note("bad_time", "time", str(error))
        return None
    if not -_INT64 <= instant < _INT64:
        faults.note("bad_time", "time", f"{text[:64]!r} is outside the years 1678 to 2262")
    return instant


@lru_cache(maxsize=1024)
def _second(text: str) -> int:
    return parse_time(f"{text}Z")


def _extensions(attributes: Mapping[str, str], faults: Faults) -> dict[str, str]:
    names, bad = _sorted_out(tuple(attributes))
    for name in bad:
        faults.note("bad_name", name[:64], "is no attribute name; those have lower-case letters and digits only")
    extensions = {name: attributes[name] for name in names}
    metadata = extensions.get("metadata")
    if metadata is not None:
        public = public_metadata(metadata)
        if public is None:
            del extensions["metadata"]
        elif public is not metadata:
            extensions["metadata"] = public
    return extensions


@lru_cache(maxsize=256)  # a sender's events all have the same attributes
def _sorted_out(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The names of extensions, and those that no attribute may have; secret ones are in neither."""
    others = [name for name in names if name not in CONTEXT and not is_secret(name)]
    bad = [name for name in others if name == "data" or _NAME.fullmatch(name) is None]
    return [name for name in others if name not in bad], bad
