"""What a rule of redaction says: a request header or a JSON path, and what is to become of its values."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import orjson

from inferwatch.json_path import ALLOWED_STEPS, JsonPath

Action = Literal["drop", "hash", "mask"]
Change = Callable[[Any], Any]
"""A value -> what is kept of it."""

SHORTHAND: Final = f"`headers.NAME`, or a JSON path {ALLOWED_STEPS}"

_HEADER: Final = re.compile(r"headers\.([!#$%&'*+.^_`|~0-9A-Za-z-]+)")
_KEYS: Final = ("path", "header", "action", "key_file")
_STARS: Final = "****"
_SHOWN: Final = 4
_SHORT: Final = 8


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: either `path` or `header`. `key_file` holds the key of a hash."""

    path: JsonPath | None = None
    header: str | None = None
    action: Action = "drop"
    key_file: Path | None = None

    @classmethod
    def of(cls, entry: str | Mapping[str, Any] | Rule) -> Rule:
        """Return the rule of `headers.NAME`, of a JSON path, or of a mapping with the names of the fields.

        Raises `ValueError` for anything else, with what is allowed.
        """
        if isinstance(entry, Rule):
            return entry
        if isinstance(entry, str):
            header = _HEADER.fullmatch(entry)
            if header is not None:
                return cls(header=header[1])
            if not entry.startswith("$"):
                raise ValueError(f"{entry!r}: a rule is {SHORTHAND}")
            return cls(path=_path(entry))
        if not isinstance(entry, Mapping):
            raise ValueError(f"{entry!r}: a rule is {SHORTHAND}, or a mapping with {', '.join(_KEYS)}")
        given = {name: value for name, value in entry.items() if value is not None}
        _check(given)
        path = _path(given["path"]) if "path" in given else None
        key_file = given.get("key_file")
        return cls(path, given.get("header"), given.get("action", "drop"), Path(key_file) if key_file else None)

    def change(self) -> Change | None:
        """Return what becomes of a value; None for one that is dropped. Raises `ValueError` for a file without key."""
        if self.action == "mask":
            return masked
        if self.key_file is None:
            return None
        return hashed_with(key_of(self.key_file))


def key_of(path: Path) -> bytes:
    """Return the key that a file holds, white space around it left out. Raises `ValueError` where there is none."""
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from error
    if not key:
        raise ValueError(f"{path}: the file is to hold a key and is empty")
    return key


def hashed_with(key: bytes) -> Change:
    """Return what replaces values by their HMAC-SHA256 under the key, 64 hexadecimal digits.

    Texts are hashed as UTF-8, anything else as its JSON, so that `7` and `"7"` are one value, in headers as in bodies.
    Null stays null.
    """

    def hashed(value: Any) -> str | None:  # noqa: ANN401 - any JSON
        return None if value is None else hmac.digest(key, text_of(value).encode("utf-8", "replace"), "sha256").hex()

    return hashed


def masked(value: Any) -> str | None:  # noqa: ANN401 - any JSON
    """Return four stars and the last four characters of a text or number, of which more than eight are left out.

    Shorter ones, and containers, become the stars alone. Null stays null.
    """
    if value is None:
        return None
    text = "" if isinstance(value, (dict, list)) else text_of(value)
    return _STARS + (text[-_SHOWN:] if len(text) > _SHORT else "")


def text_of(value: Any) -> str:  # noqa: ANN401 - any JSON
    """Return a text as it is, anything else as compact JSON with sorted keys."""
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _path(text: str) -> JsonPath:
    try:
        return JsonPath(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: a rule is {SHORTHAND}") from error


def _check(given: Mapping[str, Any]) -> None:
    if unknown := [name for name in given if name not in _KEYS]:
        raise ValueError(f"{unknown[0]}: unknown key; allowed here: {', '.join(_KEYS)}")
    if odd := [name for name in ("path", "header") if not isinstance(given.get(name, ""), str)]:
        raise ValueError(f"{odd[0]}: {given[odd[0]]!r} is no text")
    if ("path" in given) == ("header" in given):
        raise ValueError("a rule has either `path` or `header`")
    if "header" in given and _HEADER.fullmatch(f"headers.{given['header']}") is None:
        raise ValueError(f"{given['header']!r} is no name of a header")
    action = given.get("action", "drop")
    if action not in get_args(Action):
        raise ValueError(f"{action!r} is none of {', '.join(get_args(Action))}")
    if (action == "hash") != ("key_file" in given):
        raise ValueError("`key_file` names the file with the key of a `hash`, and nothing else has one")
