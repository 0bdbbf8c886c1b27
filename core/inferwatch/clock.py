"""Time: instants are integers, nanoseconds since 1970-01-01T00:00:00Z; on the outside they are RFC 3339 in UTC."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

NS_PER_S = 1_000_000_000
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,18}))?(?:([Zz])|([+-]\d\d:\d\d))",
    re.ASCII,
)


class Clock(Protocol):
    """The source of the present time, injected so that tests can turn it by hand."""

    def now_ns(self) -> int:
        """Return the present instant in nanoseconds since the epoch."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        """Return the present instant in nanoseconds since the epoch."""
        return time.time_ns()


class ManualClock:
    """A clock that stands still until it is told to move.

    >>> clock = ManualClock(parse_time("2026-11-21T10:00:00Z"))
    >>> clock.advance(1.5)
    >>> format_time(clock.now_ns())
    '2026-11-21T10:00:01.5Z'
    """

    def __init__(self, now_ns: int = 0) -> None:
        self._now_ns = now_ns

    def now_ns(self) -> int:
        """Return the instant the clock was last set to."""
        return self._now_ns

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._now_ns += round(seconds * NS_PER_S)


def parse_time(text: str) -> int:
    """Return the instant that an RFC 3339 time names: 0 to 9 fraction digits (more are cut), `Z` or an offset.

    Raises `ValueError` for anything else, a time without zone included.
    """
    match = _RFC3339.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not an RFC 3339 time with a zone: {text[:64]!r}")
    date, clock, fraction, _, offset = match.groups()
    second_60 = clock.endswith(":60")  # a leap second reads as the second before it, as in the Unix time scale
    moment = datetime.fromisoformat(f"{date}T{clock[:-2] + '59' if second_60 else clock}{offset or '+00:00'}")
    whole = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    return whole * NS_PER_S + int((fraction or "0")[:9].ljust(9, "0"))


def format_time(instant_ns: int) -> str:
    """Return the instant as RFC 3339 in UTC, fraction digits only as far as they are not zero."""
    seconds, fraction = divmod(instant_ns, NS_PER_S)
    text = _format_second(seconds)
    return f"{text}.{f'{fraction:09d}'.rstrip('0')}Z" if fraction else f"{text}Z"


@lru_cache(maxsize=64)  # what happens now happens in the same second
def _format_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()  # strftime does not pad years
