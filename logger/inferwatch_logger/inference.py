"""One request and its response, as they pass, and the events that tell of them.

Whoever relays them says what passes; nothing is made of it yet. The events are made soon after (`Recorder`), so that
capture delays neither the application nor the answer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from random import getrandbits  # seeded by the system, anew in every fork
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Final, Protocol

import orjson

from inferwatch.clock import format_time
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent
from inferwatch.wire.attributes import header_text
from inferwatch.wire.grpc_codes import HTTP_STATUS, name_of

if TYPE_CHECKING:
    from inferwatch_logger.capture import Capture

Headers = Sequence[tuple[bytes, bytes]]
"""Header fields as they came, names in lower case."""


class RequestHeaders:
    """Header fields by their names: `first` of several of one name; all in `repeated`, where there are such."""

    __slots__ = ("first", "repeated")

    def __init__(self, fields: Headers) -> None:
        self.first: dict[bytes, bytes] = dict(fields)
        self.repeated: Headers | None = None
        if len(self.first) < len(fields):
            self.first, self.repeated = dict(reversed(fields)), tuple(fields)


_VERSION: Final = re.compile(r"/versions/([^/:]+)")


class Taker(Protocol):
    """What inferences are told to."""

    def later(self, inference: Inference, /) -> None:
        """Let an inference make its events soon, when no request waits for it."""
        ...

    def take(self, event: CloudEvent, capture: Capture, /) -> None:
        """Take an event."""
        ...

    def is_sampled(self, capture: Capture, body: bytes, /) -> bool:
        """Decide by the request's body whether it is captured."""
        ...


class _Body:
    """The beginning of a body, as its parts come by. `seen` counts all bytes, `cut` says that some were not kept.

    Most have one part; a list for it would be one more object to be collected, which costs more than to make it.
    """

    __slots__ = ("_first", "_further", "_room", "cut", "seen")

    def __init__(self, room: int) -> None:
        self._first = b""
        self._further: list[bytes] | None = None
        self._room = room
        self.seen = 0
        self.cut = False

    def add(self, part: bytes) -> None:
        if not part:
            return
        size = len(part)
        self.seen += size
        if size > self._room:
            self.cut = True
            part = part[: self._room]
            if not part:
                return
        self._room -= len(part)
        if not self._first:
            self._first = bytes(part)
        elif self._further is None:
            self._further = [bytes(part)]
        else:
            self._further.append(bytes(part))

    def parts(self) -> bytes | list[bytes]:
        return self._first if self._further is None else [self._first, *self._further]


class Inference:
    """One request and its response, under one id. `headers` are its own from now on.

    Keeps as few objects as it can until its events are made: what a request leaves behind brings the next collection
    of garbage nearer, which is most of what capture would cost the slowest requests.
    """

    __slots__ = (
        "_asked",
        "_asked_cut",
        "_capture",
        "_content_type",
        "_elapsed_ns",
        "_first",
        "_grpc_status",
        "_id",
        "_method",
        "_path",
        "_repeated",
        "_replied",
        "_replied_cut",
        "_request",
        "_response",
        "_sampled",
        "_shared",
        "_start_ns",
        "_status",
        "_taker",
        "_time_ns",
    )

    def __init__(self, capture: Capture, method: str, path: str, headers: RequestHeaders, taker: Taker) -> None:
        self._time_ns = time_ns()
        self._start_ns = perf_counter_ns()
        self._capture = capture
        self._taker = taker
        self._method = method
        self._path = path
        self._first = headers.first
        self._repeated = headers.repeated
        self._request: _Body | None = _Body(capture.max_body_bytes)
        self._asked: bytes | list[bytes] | None = None
        self._asked_cut = False
        self._response: _Body | None = None
        self._replied: bytes | list[bytes] | None = None
        self._replied_cut = False
        self._status = 0
        self._grpc_status = ""
        self._content_type: str | None = None
        self._elapsed_ns = 0
        self._id: str | None = None
        self._shared: dict[str, str] | None = None
        self._sampled = capture.sampling is None or not capture.sampling.needs_body

    def request_part(self, part: bytes) -> None:
        """Note a part of the request's body."""
        if self._request is not None:
            self._request.add(part)

    def request_end(self) -> None:
        """Note that the request is complete."""
        if self._request is not None:
            body, self._request = self._request, None
            if self._capture.requests or not self._sampled:
                self._asked, self._asked_cut = body.parts(), body.cut
                self._taker.later(self)

    def request_cut(self) -> None:
        """Note that the rest of the request's body will not come."""
        if self._request is not None:
            self._request.cut = True

    def response_start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Note the head of the response, header names in any case."""
        self._status = status
        for name, value in headers:
            if len(name) == 12 and name.lower() == b"content-type":
                self._content_type = header_text(value)
                break
        self._response = _Body(self._capture.max_body_bytes)

    def response_part(self, part: bytes) -> None:
        """Note a part of the response's body."""
        if self._response is not None:
            self._response.add(part)

    def response_trailer(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Note the code that a gRPC call ends with, names in lower case, and as status what HTTP has for it."""
        code = dict(fields).get(b"grpc-status")
        if code is not None:
            self._grpc_status = name_of(code)
            self._status = HTTP_STATUS[self._grpc_status] if self._status == 200 else self._status

    def response_end(self) -> None:
        """Note that the response is complete."""
        self._leave_request()
        if self._response is not None:
            body, self._response = self._response, None
            self._elapsed_ns = perf_counter_ns() - self._start_ns
            if self._capture.responses:
                self._replied, self._replied_cut = body.parts(), body.cut
                self._taker.later(self)

    def response_cut(self) -> None:
        """Note that a part of the response's body was not to be seen."""
        if self._response is not None:
            self._response.cut = True

    def failed(self, status: int = 500) -> None:
        """Note that there will be no answer but this status, unless one had begun."""
        if self._status == 0:
            self.response_start(status, ())
            self.response_end()

    def ended(self) -> None:
        """Send what is still open: a body that was not read to its end, an answer that broke off."""
        self._leave_request()
        if self._response is not None:
            self._response.cut = True
            self.response_end()

    def make(self) -> None:
        """Make the event of the part that was complete first, and at the next call that of the other one.

        So events come in the order in which requests, and responses, were complete.
        """
        if self._asked is not None:
            asked, self._asked = self._asked, None
            self._make_request(_joined(asked))
        elif self._replied is not None:
            replied, self._replied = self._replied, None
            if self._sampled:
                self._make_response(_joined(replied))

    def _leave_request(self) -> None:
        if self._request is not None:
            self._request.cut |= self._request.seen < self._announced()
            self.request_end()

    def _announced(self) -> float:
        """How long the request body is to be."""
        if b"transfer-encoding" in self._first:
            return math.inf
        length = self._first.get(b"content-length", b"0")
        return int(length) if length.isdigit() else math.inf

    def _make_request(self, content: bytes) -> None:
        if not self._sampled:
            if not self._taker.is_sampled(self._capture, content):
                return
            self._sampled = True
        if self._capture.requests:
            own = {"recordedtime": format_time(time_ns())}
            content_type = self._first.get(b"content-type")
            kept = None if content_type is None else header_text(content_type)
            self._make(REQUEST_TYPE, self._time_ns, kept, content, self._asked_cut, own)

    def _make_response(self, content: bytes) -> None:
        own = {
            "recordedtime": format_time(time_ns()),
            "statuscode": str(self._status),
            "latencyms": f"{self._elapsed_ns / 1e6:.3f}",
        }
        if self._grpc_status:
            own["grpcstatus"] = self._grpc_status
        moment_ns = self._time_ns + self._elapsed_ns
        self._make(RESPONSE_TYPE, moment_ns, self._content_type, content, self._replied_cut, own)

    def _make(
        self, kind: str, moment_ns: int, content_type: str | None, content: bytes, cut: bool, own: dict[str, str]
    ) -> None:
        if self._shared is None or self._id is None:
            self._id = _id(self._first.get(b"ce-id"))
            self._shared = self._attributes()
        if cut:
            own["truncated"] = "true"
        capture = self._capture
        extensions = {**self._shared, **own}
        event = CloudEvent(self._id, capture.source, kind, moment_ns, content_type, extensions, content, cut)
        self._taker.take(event, capture)

    def _attributes(self) -> dict[str, str]:
        """What the request's and the response's event have in common."""
        capture, path = self._capture, self._path
        attributes = {
            **capture.attributes,
            "metadata": _metadata(self._repeated or self._first.items(), capture.metadata),
            "path": path,
            "method": self._method,
        }
        traceparent = self._first.get(b"traceparent")
        if traceparent:
            attributes["traceparent"] = header_text(traceparent)
        version = _VERSION.search(path) if "/versions/" in path else None
        if version is not None:
            attributes["modelversion"] = version[1]
        if capture.sampling is not None and 0 < capture.sampling.rate < 1:
            attributes["sampledrate"] = str(capture.sampling.weight())
        return attributes


def _joined(parts: bytes | list[bytes]) -> bytes:
    return parts if isinstance(parts, bytes) else b"".join(parts)


def _id(given: bytes | None) -> str:
    """The caller's id; a new one where there is none, or one that no CloudEvent may have."""
    if given:
        text = header_text(given)
        if text.isprintable():
            return text
    return _uuid4()


def _uuid4() -> str:
    """A random UUID, a fifth of the cost of the standard library's, which asks the system each time."""
    digits = getrandbits(128).to_bytes(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _metadata(headers: Iterable[tuple[bytes, bytes]], wanted: Mapping[bytes, str]) -> str:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        if name in wanted:
            found.setdefault(wanted[name], []).append(header_text(value))
    return orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode() if found else "{}"
