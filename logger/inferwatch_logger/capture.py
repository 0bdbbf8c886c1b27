"""Capture: what a model server is asked and answers, as CloudEvents, whoever relays it.

The middleware and the sidecar tell an `Inference` what passes; it makes the events. Captured is every HTTP request but
OPTIONS and HEAD, probes (user agent `kube-probe/...`, header `K-Network-Probe`) and scrapes of `/metrics`; with
`paths`, of those only the ones whose path matches one of the globs (`*` also matches `/`).
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from random import getrandbits  # seeded by the system, anew in every fork
from time import monotonic, perf_counter_ns, time_ns
from typing import Final, Literal, ParamSpec, TypeVar

import orjson

from inferwatch.clock import format_time
from inferwatch.errors import ConfigError, Fault
from inferwatch.events import ORIGIN_HEADER, REQUEST_TYPE, RESPONSE_TYPE, CloudEvent
from inferwatch.wire.grpc_codes import HTTP_STATUS, name_of
from inferwatch.wire.privacy import is_secret

Mode = Literal["all", "request", "response"]
Headers = Sequence[tuple[bytes, bytes]]
"""Header fields as they came, names in lower case."""

logger = logging.getLogger(__name__)

_COMPLAINT_INTERVAL_S: Final = 60.0
_UNCAPTURED_METHODS: Final = frozenset({"OPTIONS", "HEAD"})
_VERSION: Final = re.compile(r"/versions/([^/:]+)")

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Capture:
    """What is captured, and what every event says. `metadata`: header names in lower case -> as they are written."""

    requests: bool
    responses: bool
    max_body_bytes: int
    queue_bytes: int
    source: str
    attributes: dict[str, str]
    metadata: dict[bytes, str]
    paths: re.Pattern[str] | None

    @classmethod
    def of(
        cls,
        *,
        name: str,
        namespace: str = "default",
        component: str = "predictor",
        endpoint: str = "default",
        mode: Mode = "all",
        metadata_headers: Iterable[str] = (),
        annotations: Mapping[str, str] | None = None,
        paths: Iterable[str] | None = None,
        max_body_bytes: int = 1_048_576,
        queue_bytes: int = 67_108_864,
        source: str | None = None,
    ) -> Capture:
        """Return what these options ask for. Raises `ConfigError` with every fault.

        `mode`: which events to send. `metadata_headers`: request headers to carry in `metadata`, in any case;
        credentials never are. `annotations`: of the served model, said of every event. `max_body_bytes`: longer bodies
        are cut and marked. `queue_bytes`: the memory that undelivered events may take.
        """
        _check(name, mode, max_body_bytes, queue_bytes)
        said = {"annotations": orjson.dumps(annotations, option=orjson.OPT_SORT_KEYS).decode()} if annotations else {}
        return cls(
            requests=mode != "response",
            responses=mode != "request",
            max_body_bytes=max_body_bytes,
            queue_bytes=queue_bytes,
            source=source or f"/namespaces/{namespace}/services/{name}/{component}",
            attributes={
                "inferenceservicename": name,
                "namespace": namespace,
                "component": component,
                "endpoint": endpoint,
                **said,
            },
            metadata=_wanted(metadata_headers),
            paths=None if paths is None else re.compile("|".join(map(translate, paths)) or r"(?!)"),
        )

    def begin(self, method: str, path: str, headers: Headers, emit: Callable[[CloudEvent], None]) -> Inference | None:
        """Return what is to be told of this request from now on; None where it is not captured."""
        if method in _UNCAPTURED_METHODS or path.rstrip("/").endswith("/metrics"):
            return None
        if self.paths is not None and self.paths.match(path) is None:
            return None
        first = dict(reversed(headers))  # of several of one name, the first
        if first.get(b"user-agent", b"").startswith(b"kube-probe/") or b"k-network-probe" in first:
            return None
        return Inference(self, method, path, headers, first, emit)


class FailOpen:
    """Runs the steps of capture. A fault is counted and logged, at most once a minute, and never raised."""

    def __init__(self) -> None:
        self.errors = 0
        self._complained_s = -_COMPLAINT_INTERVAL_S

    def __call__(self, step: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T | None:
        """Return what the step returns, or None where it failed."""
        try:
            return step(*arguments, **named)
        except Exception:  # noqa: BLE001 - fail open
            self.complain()
            return None

    def complain(self) -> None:
        """Count the exception that is being handled, and log it unless one was logged just now."""
        self.errors += 1
        if monotonic() - self._complained_s >= _COMPLAINT_INTERVAL_S:
            self._complained_s = monotonic()
            logger.exception("capture failed; the request is served all the same (%d times so far)", self.errors)


class _Body:
    """The beginning of a body, as its parts come by. `seen` counts all bytes, `cut` says that some were not kept."""

    __slots__ = ("_parts", "_room", "cut", "seen")

    def __init__(self, room: int) -> None:
        self._parts: list[bytes] = []
        self._room = room
        self.seen = 0
        self.cut = False

    def add(self, part: bytes) -> None:
        self.seen += len(part)
        if len(part) > self._room:
            self.cut = True
            part = part[: self._room]
        if part:
            self._room -= len(part)
            self._parts.append(bytes(part))

    def content(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


class Inference:
    """One request and its response, under one id."""

    def __init__(
        self,
        capture: Capture,
        method: str,
        path: str,
        headers: Headers,
        first: Mapping[bytes, bytes],
        emit: Callable[[CloudEvent], None],
    ) -> None:
        self._capture = capture
        self._emit_event = emit
        self._time_ns = time_ns()
        self._start_ns = perf_counter_ns()
        self._raw_headers = headers
        self._headers = first
        self._method = method
        self._path = path
        self._id = _id(self._header(b"ce-id"))
        self._request: _Body | None = _Body(capture.max_body_bytes)
        self._response: _Body | None = None
        self._status = 0
        self._grpc_status = ""
        self._content_type: str | None = None
        self._shared: dict[str, str] | None = None

    def request_part(self, part: bytes) -> None:
        """Note a part of the request's body."""
        if self._request is not None:
            self._request.add(part)

    def request_end(self) -> None:
        """Note that the request is complete."""
        body, self._request = self._request, None
        if body is not None and self._capture.requests:
            self._emit(REQUEST_TYPE, self._time_ns, self._header(b"content-type"), body, {})

    def request_cut(self) -> None:
        """Note that the rest of the request's body will not come."""
        if self._request is not None:
            self._request.cut = True

    def response_start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Note the head of the response, header names in any case."""
        self._status = status
        self._content_type = _content_type(headers)
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
        body, self._response = self._response, None
        if body is not None and self._capture.responses:
            elapsed_ns = perf_counter_ns() - self._start_ns
            own = {"statuscode": str(self._status), "latencyms": f"{elapsed_ns / 1e6:.3f}"}
            if self._grpc_status:
                own["grpcstatus"] = self._grpc_status
            self._emit(RESPONSE_TYPE, self._time_ns + elapsed_ns, self._content_type, body, own)

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

    def _header(self, name: bytes) -> str | None:
        value = self._headers.get(name)
        return None if value is None else _text(value)

    def _leave_request(self) -> None:
        if self._request is not None:
            self._request.cut |= self._request.seen < self._announced()
            self.request_end()

    def _announced(self) -> float:
        """How long the request body is to be."""
        if self._header(b"transfer-encoding") is not None:
            return math.inf
        length = self._header(b"content-length") or "0"
        return int(length) if length.isdecimal() else math.inf

    def _emit(self, kind: str, moment_ns: int, content_type: str | None, body: _Body, own: dict[str, str]) -> None:
        if self._shared is None:
            self._shared = self._attributes()
        extensions = {**self._shared, "recordedtime": format_time(time_ns()), **own}
        if body.cut:
            extensions["truncated"] = "true"
        self._emit_event(
            CloudEvent(
                self._id, self._capture.source, kind, moment_ns, content_type, extensions, body.content(), body.cut
            )
        )

    def _attributes(self) -> dict[str, str]:
        """What the request's and the response's event have in common."""
        attributes = {**self._capture.attributes, "metadata": _metadata(self._raw_headers, self._capture.metadata)}
        attributes |= {"path": self._path, "method": self._method}
        traceparent = self._header(b"traceparent")
        if traceparent:
            attributes["traceparent"] = traceparent
        version = _VERSION.search(self._path)
        if version is not None:
            attributes["modelversion"] = version[1]
        return attributes


def _check(name: str, mode: str, max_body_bytes: int, queue_bytes: int) -> None:
    faults = []
    if not name:
        faults.append(Fault("name", "is empty; allowed is the name of the served model"))
    if mode not in ("all", "request", "response"):
        faults.append(Fault("mode", f"{mode!r} is none of all, request, response"))
    if max_body_bytes < 0:
        faults.append(Fault("max_body_bytes", f"{max_body_bytes} is negative"))
    if queue_bytes <= 0:
        faults.append(Fault("queue_bytes", f"{queue_bytes} is not positive"))
    if faults:
        raise ConfigError(faults)


def _wanted(names: Iterable[str]) -> dict[bytes, str]:
    """Header names in lower case -> as Go, and so KServe, writes them."""
    return {
        name.lower().encode("latin-1"): "-".join(part.capitalize() for part in name.split("-"))
        for name in (*names, ORIGIN_HEADER)
        if not is_secret(name)
    }


def _content_type(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Applications write names in any case."""
    return next((_text(value) for name, value in headers if name.lower() == b"content-type"), None)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _id(given: str | None) -> str:
    """The caller's id; a new one where there is none, or one that no CloudEvent may have."""
    return given if given and given.isprintable() else _uuid4()


def _uuid4() -> str:
    """A random UUID, a fifth of the cost of the standard library's, which asks the system each time."""
    digits = f"{getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def _metadata(headers: Iterable[tuple[bytes, bytes]], wanted: dict[bytes, str]) -> str:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        canonical = wanted.get(name)
        if canonical is not None:
            found.setdefault(canonical, []).append(_text(value))
    return orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode() if found else "{}"
