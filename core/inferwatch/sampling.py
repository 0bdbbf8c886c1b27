"""Which requests are captured where not all are: a share of them, by chance or by what they say of themselves.

With `by`, a header or a field of the request's body, the share is one of its values: of one user, say, all requests are
captured or none, in every process, and whoever was captured stays so when the rate rises. A request without a value is
taken by chance. `key_file` keeps clients from choosing values that are never captured.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b, sha256
from pathlib import Path
from random import random  # seeded by the system, anew in every fork
from typing import Any, Final

import orjson

from inferwatch.errors import UndecodablePayload
from inferwatch.json_path import JsonPath
from inferwatch.redaction_rules import key_of, text_of
from inferwatch.wire.compression import GZIP_MAGIC, inflate
from inferwatch.wire.json_text import check

_KEYS: Final = ("rate", "by", "key_file")
_SOURCES: Final = ("header", "field")


class Sampling:
    """Takes the share `rate` of requests. Raises `ValueError` with what is allowed.

    `header` and `field` (a JSON path, of which the first value counts) exclude each other.
    """

    def __init__(
        self, rate: float = 1.0, *, header: str | None = None, field: str | None = None, key: bytes = b""
    ) -> None:
        if not _is_share(rate):
            raise ValueError(f"rate: {rate!r} is no number from 0 to 1")
        if header is not None and field is not None:
            raise ValueError("by: is either a `header` or a `field`")
        self.rate = rate
        self.header = None if header is None else header.lower().encode("latin-1", "replace")
        self._field = None if field is None else JsonPath(field)
        self._key = sha256(key).digest()

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Sampling:
        """Return what `{rate: 0.1, by: {header: x-user}, key_file: FILE}` says, `by: {field: "$.user"}` as well."""
        given = _known(entry, _KEYS, "a sample")
        by = _known(given.get("by", {}), _SOURCES, "by")
        if odd := [name for name in by if not isinstance(by[name], str) or not by[name]]:
            raise ValueError(f"by.{odd[0]}: {by[odd[0]]!r} is no text")
        if "by" in given and not by:
            raise ValueError("by: names either a `header` or a `field`")
        key = key_of(Path(given["key_file"])) if "key_file" in given else b""
        return cls(given.get("rate", 1.0), header=by.get("header"), field=by.get("field"), key=key)

    @property
    def needs_body(self) -> bool:
        """Whether the request's body decides."""
        return self._field is not None

    def takes(self, value: str | None) -> bool:
        """Decide by a value; by chance where there is none."""
        if value is None:
            return random() < self.rate  # noqa: S311 - guards nothing
        digest = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "big") < self.rate * 2**64

    def value_in(self, body: bytes) -> str | None:
        """Return the value that the field has in a request's body; None where there is none, or no JSON."""
        if self._field is None:
            return None
        try:
            text = inflate(body) if body[:2] == GZIP_MAGIC else body
            check(text)
            found = [orjson.loads(value) for value in self._field.values(text)[:1]]
        except (ValueError, UndecodablePayload):
            return None
        return text_of(found[0]) if found and found[0] is not None else None

    def weight(self) -> int:
        """Return how many requests one that was taken stands for: a whole number, 1 / rate on average."""
        whole, rest = divmod(1 / self.rate, 1)
        return int(whole) + (random() < rest)  # noqa: S311 - guards nothing


def _is_share(rate: object) -> bool:
    return isinstance(rate, (int, float)) and not isinstance(rate, bool) and 0 <= rate <= 1


def _known(entry: Any, keys: tuple[str, ...], what: str) -> dict[str, Any]:  # noqa: ANN401 - from a configuration
    if not isinstance(entry, Mapping):
        raise ValueError(f"{entry!r}: {what} is a mapping with {', '.join(keys)}")
    if unknown := [name for name in entry if name not in keys]:
        raise ValueError(f"{unknown[0]}: unknown key; allowed here: {', '.join(keys)}")
    return {name: value for name, value in entry.items() if value is not None}
