"""Explanations that were given lately, so that the same question is not worked out twice."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import orjson

from inferwatch.explanation import Explanation
from inferwatch_explainers.request import ExplainRequest

Key = bytes


@dataclass(frozen=True, slots=True)
class Cached:
    """An explanation, how many bytes it counts for, and when it was given, in seconds of `time.monotonic`."""

    explanation: Explanation
    size: int
    given: float


class ExplanationCache:
    """The latest explanations, up to `max_bytes` of them as JSON, none older than `max_age_s`.

    An explanation that was cut by its deadline is not kept, so what is found is as good as it gets, for any deadline.
    Not thread-safe: it belongs to the event loop.
    """

    def __init__(self, max_bytes: int, max_age_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._clock = clock
        self._kept: OrderedDict[Key, Cached] = OrderedDict()
        self.size = 0

    def get(self, key: Key) -> tuple[Explanation, float] | None:
        """Return what was said and how many seconds ago; None where nothing was, or too long ago."""
        found = self._kept.get(key)
        if found is None:
            return None
        age = self._clock() - found.given
        if age > self._max_age_s:
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        return found.explanation, age

    def put(self, key: Key, explanation: Explanation) -> None:
        """Keep an explanation; those asked for longest ago give way."""
        if explanation.deadline_reached:
            return
        if key in self._kept:
            self._forget(key)
        size = len(key) + len(orjson.dumps(explanation.as_dicts(), option=orjson.OPT_SERIALIZE_NUMPY))
        if size > self._max_bytes:
            return
        self._kept[key] = Cached(explanation, size, self._clock())
        self.size += size
        while self.size > self._max_bytes:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: Key) -> None:
        self.size -= self._kept.pop(key).size


def key_of(asked: ExplainRequest, headers: Mapping[str, str], *about: object) -> Key:
    """Return what tells questions apart: the rows and how they are written, the options, and whatever it is `about`.

    The caller's authorization is part of it, since a predictor may refuse one caller what it answers another. How the
    answer is written or drawn, and by when, is not.
    """
    options = asked.options
    said = (
        *about,
        (options.target, options.samples, options.immutable, options.options),
        (asked.form, asked.schema, asked.values.shape),
        headers.get("authorization"),
    )
    return blake2b(repr(said).encode() + asked.values.tobytes(), digest_size=32).digest()
