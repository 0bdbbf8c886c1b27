"""What is asked and answered on a connection of HTTP/2, told to capture: REST calls and those of gRPC.

Both directions are followed beside the relay, which passes the bytes on unchanged. So windows, settings, resets and
trailers are between client and upstream alone, and nothing here can break a call. What cannot be followed is counted
as unlogged from there on.

The messages of a gRPC call are captured as its frames, as KServe's agent does; those of a stream together, as those of
SSE are. The code it ends with, which HTTP/2 has in the trailer, becomes `grpcstatus`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hpack import Decoder, HPACKError

from inferwatch_logger.proxy.frames import (
    DATA,
    HEADERS,
    PUSH_PROMISE,
    RESET,
    SETTINGS,
    BrokenFrames,
    Frame,
    Frames,
    settings,
)
from inferwatch_logger.proxy.grpc_model import ENOUGH_BYTES, model_of, names_its_model
from inferwatch_logger.proxy.head import path_of

if TYPE_CHECKING:
    from inferwatch_logger.inference import Inference
    from inferwatch_logger.proxy.relay import Relay

_HEADER_TABLE_SIZE: Final = 1
_MOST_TABLE_BYTES: Final = 1_048_576
_MOST_FIELD_BYTES: Final = 524_288

_Fields = Sequence[tuple[bytes, bytes]]
_Head = tuple[str, str, _Fields]
"""Method, path and header fields of a request."""


@dataclass(slots=True)
class _Call:
    """One stream. `inference` is None where it is not captured, or not yet begun."""

    inference: Inference | None = None
    head: _Head | None = None
    """Of a request that is begun once its body says which model it is for, and what has come of that."""
    beginning: bytes = b""
    received: bool = False
    """The request is complete."""
    begun: bool = False
    """The head of the final response has come."""


class Conversation:
    """Follows one connection. Faults of capture are counted, as everywhere, and never raised."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._guarded = relay.guarded
        self._requests = Frames(preface=True)
        self._responses = Frames(preface=False)
        self._request_fields = Decoder(_MOST_FIELD_BYTES)
        self._response_fields = Decoder(_MOST_FIELD_BYTES)
        self._calls: dict[int, _Call] = {}
        self._last_stream = 0
        self._followed = True

    @property
    def busy(self) -> bool:
        """Whether a call is under way, or may be."""
        return bool(self._calls) or not self._followed

    @property
    def interruptible(self) -> bool:
        """Whether a frame of our own may be put behind what the upstream has sent so far."""
        return self._followed and self._responses.between

    def asked(self, data: bytes) -> None:
        """Follow what the client sent."""
        self._follow(self._requests, self._request, data)

    def answered(self, data: bytes) -> None:
        """Follow what the upstream sent."""
        self._follow(self._responses, self._response, data)

    def close(self) -> None:
        """Take note that the connection has ended."""
        self._followed = False
        calls, self._calls = self._calls, {}
        for call in calls.values():
            self._abandon(call)

    def _follow(self, frames: Frames, take: Callable[[Frame], None], data: bytes) -> None:
        if not self._followed:
            return
        try:
            for frame in frames.feed(data):
                take(frame)
        except Exception as fault:  # noqa: BLE001 - fail open
            if not isinstance(fault, BrokenFrames | HPACKError):
                self._guarded.complain()
            self._relay.unlogged["h2c"] += 1
            self.close()

    def _call_of(self, frame: Frame) -> _Call | None:
        """The call that a frame goes on with; None where it is of none, or ends it before its time."""
        call = self._calls.get(frame.stream)
        if call is None or frame.kind != RESET:
            return call
        del self._calls[frame.stream]
        self._abandon(call)
        return None

    # what the client sends

    def _request(self, frame: Frame) -> None:
        if frame.kind == HEADERS:
            fields = _decoded(self._request_fields, frame)
            if frame.stream > self._last_stream:
                self._last_stream = frame.stream
                self._calls[frame.stream] = self._called(fields)
                self._relay.requests += 1
        elif frame.kind == SETTINGS:
            _widen(self._response_fields, frame)
            return
        call = self._call_of(frame)
        if call is None:
            return
        if frame.kind == DATA:
            self._take_part(call, frame.payload)
        if frame.ends_stream:
            call.received = True
            self._begin_named(call, last=True)
            if call.inference is not None:
                self._guarded(call.inference.request_end)

    def _take_part(self, call: _Call, payload: bytes) -> None:
        if call.head is not None:
            call.beginning += payload
            self._begin_named(call)
        elif call.inference is not None:
            self._guarded(call.inference.request_part, payload)

    def _called(self, fields: _Fields) -> _Call:
        pseudo = {name: value for name, value in fields if name.startswith(b":")}
        if b":path" not in pseudo or b":protocol" in pseudo:  # CONNECT
            self._relay.unlogged["upgrade"] += 1
            return _Call()
        given = [field for field in fields if not field[0].startswith(b":")]
        head = pseudo.get(b":method", b"").decode("latin-1"), path_of(pseudo[b":path"]), given
        if self._relay.recorder.tells_models_apart and names_its_model(head[1]):
            return _Call(head=head)
        return _Call(self._guarded(self._relay.recorder.begin, *head))

    def _begin_named(self, call: _Call, *, last: bool = False) -> None:
        """Begin a call once its body says which model it is for, or will not say so any more."""
        if call.head is None:
            return
        model = model_of(call.beginning)
        if model is not None or last or len(call.beginning) >= ENOUGH_BYTES:
            call.inference = self._guarded(self._relay.recorder.begin, *call.head, model)
            if call.inference is not None:
                self._guarded(call.inference.request_part, call.beginning)
            call.head, call.beginning = None, b""

    # what the upstream sends

    def _response(self, frame: Frame) -> None:
        fields: _Fields = ()
        if frame.kind in (HEADERS, PUSH_PROMISE):
            fields = _decoded(self._response_fields, frame)
        elif frame.kind == SETTINGS:
            _widen(self._request_fields, frame)
            return
        call = self._call_of(frame)
        if call is None:
            return
        self._begin_named(call, last=True)
        if call.inference is not None:
            if frame.kind == HEADERS:
                self._note_fields(call, call.inference, fields)
            elif frame.kind == DATA:
                self._guarded(call.inference.response_part, frame.payload)
        if frame.ends_stream:
            del self._calls[frame.stream]
            self._finish(call)

    def _note_fields(self, call: _Call, inference: Inference, fields: _Fields) -> None:
        """Note the head of the response, or its trailer; a gRPC call that fails at once has both in one."""
        if not call.begun:
            status = dict(fields).get(b":status", b"")
            if not status.isdigit():
                raise BrokenFrames(f"a response has the status {status!r}")
            if status.startswith(b"1"):
                return
            call.begun = True
            self._guarded(inference.response_start, int(status), fields)
        self._guarded(inference.response_trailer, fields)

    def _finish(self, call: _Call) -> None:
        if call.inference is not None:
            self._cut_request(call, call.inference)
            self._guarded(call.inference.response_end)

    def _abandon(self, call: _Call) -> None:
        self._begin_named(call, last=True)
        if call.inference is not None:
            self._cut_request(call, call.inference)
            self._guarded(call.inference.ended)

    def _cut_request(self, call: _Call, inference: Inference) -> None:
        if not call.received:
            self._guarded(inference.request_cut)


def _decoded(decoder: Decoder, frame: Frame) -> _Fields:
    return [(name, value) for name, value in decoder.decode(frame.payload, raw=True)]


def _widen(decoder: Decoder, frame: Frame) -> None:
    """Let the side that is told of a table's size use it; that it uses less, it says itself (RFC 7541, 4.2)."""
    size = min(settings(frame).get(_HEADER_TABLE_SIZE, 0), _MOST_TABLE_BYTES)
    decoder.max_allowed_table_size = max(decoder.max_allowed_table_size, size)
