"""Joins the request and the response of an inference into one payload.

Both halves carry the same id (and the same sender, where ids are those of a sender), and a client may use an id again,
so a response belongs to the request of its stream and id that came before it and whose event time is nearest, at most
`timeout_s` away; where there is none, to the nearest after it, since senders before KServe 0.18 state when they sent
and not when it happened. Either half may come first. The join is a function of the log alone: a backlog or a replay
joins what live traffic joined.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from inferwatch.clock import NS_PER_S
from inferwatch.events import Role, Stream

_Place = tuple[Stream, str, str, Role]
"""A stream, an id, its sender, and the half that is missing there."""

MOST_OPEN = 200_000
"""Unpaired halves kept in memory; those beyond are looked up in the index."""


@dataclass(slots=True)
class Payload:
    """One inference: a request, a response, or both. Offsets are the log's, times event times in nanoseconds.

    `sender` is empty, but where the id is unique only among those of one sender. `request_id` is what an inference
    shares with those of other models that it calls or is called by, where the events tell.
    """

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
    sender: str = ""
    request_id: str | None = None

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
        self.request_id = request.request_id or response.request_id
        self.request_offset, self.request_time_ns = request.request_offset, request.request_time_ns
        self.response_offset, self.response_time_ns = response.response_offset, response.response_time_ns


class Sought(NamedTuple):
    """The payloads that a half may complete: those that lack its role, with times between two, both included."""

    stream: Stream
    id: str
    lacking: Role
    from_ns: int
    to_ns: int
    sender: str = ""

    def fits(self, payload: Payload) -> bool:
        """Return whether a payload of the stream and id is one of them."""
        in_time = self.from_ns <= payload.time_ns <= self.to_ns
        return in_time and payload.lacks(self.lacking) and payload.sender == self.sender


class Joiner:
    """Holds the open halves. `find_open` reads those that memory has let go of from the index."""

    def __init__(
        self, timeout_s: float, find_open: Callable[[Sought], Sequence[Payload]], *, most_open: int = MOST_OPEN
    ) -> None:
        self._timeout_ns = round(timeout_s * NS_PER_S)
        self._find_open = find_open
        self._most_open = most_open
        self._open: dict[_Place, dict[str, Payload]] = {}
        # An OrderedDict finds its first entry at once; a dict first walks over every entry deleted before it.
        self._order: OrderedDict[str, _Place] = OrderedDict()
        self._latest_ns = 0
        self._forgotten_until_ns = 0
        self._outcomes: Counter[str] = Counter()

    @property
    def pending(self) -> int:
        """Halves that may still find their other half."""
        return len(self._order)

    def take_outcomes(self) -> Counter[str]:
        """Return what became of halves since the last call: `paired`, or let go alone and perhaps paired `late`.

        `uneven` are those of the pairs whose halves have different numbers of rows.
        """
        taken, self._outcomes = self._outcomes, Counter()
        return taken

    def restore(self, payloads: Sequence[Payload], latest_ns: int) -> None:
        """Continue at the latest event time with the newest open halves; others are looked up when they matter."""
        self._latest_ns = latest_ns
        self._forgotten_until_ns = latest_ns if len(payloads) >= self._most_open else latest_ns - self._timeout_ns
        for payload in payloads[-self._most_open :]:
            self._hold(payload)

    def join(self, half: Payload) -> Payload:
        """Return the payload that the half belongs to: an open one that now has both, or the half itself."""
        role = Role.REQUEST if half.request_offset is not None else Role.RESPONSE
        partner = self._partner(half, role)
        if partner is None:
            self._hold(half)
            partner = half
        else:
            if 0 < half.rows != partner.rows > 0:
                self._outcomes["uneven"] += 1
            partner.absorb(half)
            self._outcomes["paired" if self._release(partner) else "late"] += 1
        if half.time_ns > self._latest_ns:
            self._latest_ns = half.time_ns
            self._forget()
        return partner

    def _partner(self, half: Payload, role: Role) -> Payload | None:
        time_ns = half.time_ns
        from_ns, to_ns = time_ns - self._timeout_ns, time_ns + self._timeout_ns
        candidates = self._open.get((half.stream, half.id, half.sender, role), {})
        if not candidates and from_ns > self._forgotten_until_ns:
            return None
        sought = Sought(half.stream, half.id, role, from_ns, to_ns, half.sender)
        if from_ns <= self._forgotten_until_ns:
            candidates = {payload.key: payload for payload in self._find_open(sought)} | candidates
        later = 1 if role is Role.REQUEST else -1  # the sign of (partner - half) where the request comes first

        def distance(payload: Payload) -> tuple[bool, int]:
            apart = (payload.time_ns - time_ns) * later
            return apart < 0, abs(apart)

        return min(filter(sought.fits, candidates.values()), key=distance, default=None)

    def _hold(self, payload: Payload) -> None:
        lacking = Role.REQUEST if payload.lacks(Role.REQUEST) else Role.RESPONSE
        place = (payload.stream, payload.id, payload.sender, lacking)
        self._open.setdefault(place, {})[payload.key] = payload
        self._order[payload.key] = place
        if len(self._order) > self._most_open:
            self._forget_one()

    def _release(self, payload: Payload) -> bool:
        """Return whether the payload was held."""
        place = self._order.pop(payload.key, None)
        if place is None:
            return False
        held = self._open[place]
        del held[payload.key]
        if not held:
            del self._open[place]
        return True

    def _forget(self) -> None:
        """Let go of halves whose other half would have come by now, oldest first."""
        limit = self._latest_ns - self._timeout_ns
        while self._order and self._oldest().time_ns < limit:
            self._forget_one()

    def _forget_one(self) -> None:
        oldest = self._oldest()
        self._forgotten_until_ns = max(self._forgotten_until_ns, oldest.time_ns)
        self._outcomes[oldest.outcome] += 1
        self._release(oldest)

    def _oldest(self) -> Payload:
        key, place = next(iter(self._order.items()))
        return self._open[place][key]
