"""Joins the request and the response of an inference into one payload.

Both halves carry the same id, and a client may use an id again, so a response belongs to the request of its stream and
id whose event time is nearest, at most `timeout_s` away; and the other way round, since either may come first. That
makes the join a function of the log alone: a backlog or a replay joins what live traffic joined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inferwatch.clock import NS_PER_S
from inferwatch.events import Role, Stream

MOST_OPEN = 200_000
"""Unpaired halves kept in memory; those beyond are looked up in the index."""


@dataclass(slots=True)
class Payload:
    """One inference: a request, a response, or both. Offsets are the log's, times event times in nanoseconds."""

    key: str
    id: str
    stream: Stream
    protocol: str
    rows: int
    request_offset: int | None = None
    response_offset: int | None = None
    request_time_ns: int | None = None
    response_time_ns: int | None = None
    status: int | None = None
    truncated: bool = False
    excluded: str | None = None
    fault: str | None = None

    @property
    def outcome(self) -> str:
        """`paired`, `request_only` or `response_only`."""
        if self.request_offset is None:
            return "response_only"
        return "request_only" if self.response_offset is None else "paired"

    @property
    def time_ns(self) -> int:
        """When the inference was asked for; where that is unknown, when it was answered."""
        time_ns = self.request_time_ns if self.request_time_ns is not None else self.response_time_ns
        assert time_ns is not None  # noqa: S101 - a payload has at least one half
        return time_ns

    def lacks(self, role: Role) -> bool:
        """Return whether the half is still open."""
        return (self.request_offset if role is Role.REQUEST else self.response_offset) is None

    def absorb(self, other: Payload) -> None:
        """Take in the other half. What the payload is, the request says; an empty response is no health check."""
        request, response = (other, self) if other.request_offset is not None else (self, other)
        self.protocol, self.rows = request.protocol, request.rows
        self.excluded = "explain" if response.excluded == "explain" else request.excluded
        self.fault = request.fault or response.fault
        self.status = response.status
        self.truncated |= other.truncated
        self.request_offset, self.request_time_ns = request.request_offset, request.request_time_ns
        self.response_offset, self.response_time_ns = response.response_offset, response.response_time_ns


class Joiner:
    """Holds the open halves. `find_open(stream, id)` reads those that memory has let go of from the index."""

    def __init__(
        self, timeout_s: float, find_open: Callable[[Stream, str], Sequence[Payload]], *, most_open: int = MOST_OPEN
    ) -> None:
        self._timeout_ns = round(timeout_s * NS_PER_S)
        self._find_open = find_open
        self._most_open = most_open
        self._open: dict[tuple[Stream, str], list[Payload]] = {}
        self._order: dict[str, tuple[Stream, str]] = {}
        self._latest_ns = 0
        self._forgotten_until_ns = 0

    @property
    def pending(self) -> int:
        """Halves that may still find their other half."""
        return len(self._order)

    def restore(self, payloads: Sequence[Payload]) -> None:
        """Continue with the open halves that the index holds; older ones are looked up when they matter."""
        for payload in payloads[-self._most_open :]:
            self._hold(payload)
            self._latest_ns = max(self._latest_ns, payload.time_ns)
        self._forgotten_until_ns = self._latest_ns - self._timeout_ns

    def join(self, half: Payload) -> Payload:
        """Return the payload that the half belongs to: an open one that now has both, or the half itself."""
        role = Role.REQUEST if half.request_offset is not None else Role.RESPONSE
        partner = self._partner(half, role)
        if partner is None:
            self._hold(half)
            partner = half
        else:
            partner.absorb(half)
            self._release(partner)
        if half.time_ns > self._latest_ns:
            self._latest_ns = half.time_ns
            self._forget()
        return partner

    def _partner(self, half: Payload, role: Role) -> Payload | None:
        place = (half.stream, half.id)
        candidates: Sequence[Payload] = self._open.get(place, ())
        if half.time_ns - self._timeout_ns <= self._forgotten_until_ns:
            held = {payload.key for payload in candidates}
            candidates = [*candidates, *(p for p in self._find_open(*place) if p.key not in held)]
        fitting = [
            payload
            for payload in candidates
            if payload.lacks(role) and abs(payload.time_ns - half.time_ns) <= self._timeout_ns
        ]
        return min(fitting, key=lambda payload: abs(payload.time_ns - half.time_ns), default=None)

    def _hold(self, payload: Payload) -> None:
        place = (payload.stream, payload.id)
        self._open.setdefault(place, []).append(payload)
        self._order[payload.key] = place
        if len(self._order) > self._most_open:
            self._forget_one()

    def _release(self, payload: Payload) -> None:
        place = self._order.pop(payload.key, None)
        if place is None:
            return
        held = self._open[place]
        held.remove(payload)
        if not held:
            del self._open[place]

    def _forget(self) -> None:
        """Let go of halves whose other half would have come by now, oldest first."""
        limit = self._latest_ns - self._timeout_ns
        while self._order and self._oldest().time_ns < limit:
            self._forget_one()

    def _forget_one(self) -> None:
        oldest = self._oldest()
        self._forgotten_until_ns = max(self._forgotten_until_ns, oldest.time_ns)
        self._release(oldest)

    def _oldest(self) -> Payload:
        key, place = next(iter(self._order.items()))
        return next(payload for payload in self._open[place] if payload.key == key)
