"""Payloads of ModelMesh, which are JSON documents of its own, made into CloudEvents like those of KServe's agent.

A payload has `id`, `modelid`, `kind` (`request` or `response`), `data` (base64 of the bare protobuf message), `status`
(the name of a gRPC code, on responses) and `metadata` (gRPC headers). It states no time, so its arrival stands for it;
and its ids, a thread's number and a counter, are unique only in one process of ModelMesh while it lives. So every
event is given a `sender`, and halves are joined within one sender alone: that of the connection that brought it; or, of
the second half on another connection, that of the one open half that the same host brought within `WINDOW_S`. A process
that starts anew is told of the open halves that were derived by then (`restore`); one that came just before a kill -9
may stay alone, and is then two payloads with one half each, never a pair of strangers.
"""

from __future__ import annotations

from base64 import b64decode
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import orjson

from inferwatch.clock import NS_PER_S, Clock
from inferwatch.errors import Fault, InvalidEvent
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, SENDER, CloudEvent, Service
from inferwatch.payload_log.joiner import Payload
from inferwatch.wire.cloudevents import from_structured
from inferwatch.wire.grpc_codes import HTTP_STATUS

PATH: Final = "/consumer/kserve/v2"
"""Where ModelMesh is told to send them; TrustyAI's path."""

WINDOW_S: Final = 60.0
"""The second half of an inference comes within this after the first: ModelMesh sends them one behind the other."""

MOST_OPEN: Final = 10_000
"""Halves that wait for the other; beyond, the oldest is forgotten, and then joined only on its own connection."""

_TYPES: Final = {"request": REQUEST_TYPE, "response": RESPONSE_TYPE}
_MOST_ALIKE: Final = 16
_OTHER: Final = {REQUEST_TYPE: RESPONSE_TYPE, RESPONSE_TYPE: REQUEST_TYPE}


_Place = tuple[str, Service, str]
"""A host, a model and an id."""


class _Open(NamedTuple):
    """A half whose other half has not come."""

    sender: str
    type: str
    time_ns: int


class ModelMesh:
    """Makes events of payloads, in the order in which they arrive.

    `paths` holds further paths where payloads are taken, each with the namespace of its models, which payloads do not
    state; `PATH` is one of them, with the namespace `default` unless it says otherwise.
    """

    def __init__(
        self,
        clock: Clock,
        paths: Mapping[str, str] | None = None,
        *,
        window_s: float = WINDOW_S,
        most_open: int = MOST_OPEN,
    ) -> None:
        self._clock = clock
        self.paths = {PATH: "default"} | dict(paths or {})
        self._window_ns = round(window_s * NS_PER_S)
        self._most_open = most_open
        self._open: OrderedDict[_Place, list[_Open]] = OrderedDict()

    def restore(self, payloads: Iterable[Payload]) -> None:
        """Continue with payloads of which one half came, oldest first; those of other senders are left out."""
        for payload in payloads:
            if payload.sender and payload.outcome != "paired":
                host = payload.sender.rpartition(":")[0]
                half = REQUEST_TYPE if payload.outcome == "request_only" else RESPONSE_TYPE
                place = (host, payload.stream.service, payload.id)
                self._hold(place, [*self._open.pop(place, ()), _Open(payload.sender, half, payload.time_ns)])

    def member(
        self, body: bytes, client: Sequence[Any] | None, path: str = PATH, *, truncated: bool = False
    ) -> CloudEvent | InvalidEvent:
        """Return the event of a payload that a client, host and port, sent to a path; or every fault of what is none.

        `truncated` says that the body is the beginning of a longer one, which cannot be read.
        """
        if truncated:
            return InvalidEvent([Fault("", "the payload is larger than the receiver keeps")], "too_large")
        try:
            return self._event(body, self.paths[path], *(client or ("unknown", 0)))
        except InvalidEvent as invalid:
            return invalid

    def _event(self, body: bytes, namespace: str, host: str, port: int) -> CloudEvent:
        fields = _fields(body)
        now_ns = self._clock.now_ns()
        attributes = _attributes(fields, host) | {"namespace": namespace}
        event = replace(from_structured(attributes), time_ns=now_ns, data=_data(fields))
        sender = self._sender(event, host, f"{host}:{port}")
        return replace(event, extensions={**event.extensions, SENDER: sender})

    def _sender(self, event: CloudEvent, host: str, own: str) -> str:
        now_ns = event.time_ns or 0
        place = (host, event.stream.service, event.id)
        halves = [half for half in self._open.pop(place, ()) if now_ns - half.time_ns <= self._window_ns]
        others = [half for half in halves if half.type == _OTHER[event.type]]
        partner = next((half for half in others if half.sender == own), others[0] if len(others) == 1 else None)
        if partner is not None:
            halves.remove(partner)
        else:
            halves.append(_Open(own, event.type, now_ns))
        self._hold(place, halves)
        return own if partner is None else partner.sender

    def _hold(self, place: _Place, halves: Sequence[_Open]) -> None:
        if halves:
            self._open[place] = list(halves[-_MOST_ALIKE:])
        if len(self._open) > self._most_open:
            self._open.popitem(last=False)


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidEvent([Fault("", str(error))], "bad_json") from error
    if not isinstance(fields, dict):
        raise InvalidEvent([Fault("", "a payload is a JSON object")], "bad_json")
    return fields


def _attributes(fields: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return the attributes that the payload's fields are, to be checked as those of any event."""
    kind, name, metadata = fields.get("kind"), fields.get("modelid"), fields.get("metadata")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise InvalidEvent([Fault("kind", f"is {str(kind)[:64]!r}; allowed are request, response")], "bad_type")
    if not isinstance(name, str) or not name:
        raise InvalidEvent([Fault("modelid", "is missing, or no text")], "missing_attribute")
    attributes = {
        "specversion": "1.0",
        "id": fields.get("id"),
        "source": f"/modelmesh/{host}",
        "type": _TYPES[kind],
        "datacontenttype": "application/x-protobuf",
        "inferenceservicename": name,
    }
    status = fields.get("status")
    if isinstance(status, str) and status:
        attributes |= {"grpcstatus": status, "statuscode": str(HTTP_STATUS.get(status, 500))}
    if isinstance(metadata, dict):
        attributes["metadata"] = orjson.dumps({header: [value] for header, value in metadata.items()}).decode()
    return attributes


def _data(fields: Mapping[str, Any]) -> bytes:
    data = fields.get("data")
    try:
        return b64decode(data or "", validate=True)
    except (TypeError, ValueError) as error:
        raise InvalidEvent([Fault("data", f"is no base64: {error}")], "bad_base64") from error
