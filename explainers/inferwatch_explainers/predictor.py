"""The predictor of a served model, as a function of rows: what explainers call, over HTTP, marked as theirs."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Coroutine, Hashable, Mapping, Sequence
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote

import aiohttp
import numpy as np
from numpy.typing import NDArray

from inferwatch.delivery.http_reply import seconds_of
from inferwatch.errors import PredictorError, PredictorTimeout
from inferwatch.events import ORIGIN_HEADER
from inferwatch.origin import Origin
from inferwatch.rows import Matrix, Schema
from inferwatch_explainers.binary_tensors import LENGTH_HEADER, write_binary
from inferwatch_explainers.grpc_predictor import GrpcChannels, beside, write_infer
from inferwatch_explainers.predictor_reply import Reply, read_outputs, version_of
from inferwatch_explainers.request_form import RequestForm
from inferwatch_explainers.ways import (
    PROBED_ROWS,
    TEXT,
    WORTH_ROWS,
    Dialect,
    PredictorBusy,
    Spoken,
    Way,
    fastest,
    known,
)

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

_ATTEMPTS = 3
_BUSY = (429, 503)
_NOT_SPOKEN = (404, 405, 501)
_FAILED = 500
_TOO_LARGE = 413
_MOST_REPLY_BYTES = 268_435_456
_AT_ONCE = 4
"""Calls of one question that are under way at a time."""

_FORMS_KEPT = 64


class _Call(NamedTuple):
    dialect: Dialect
    body: bytes
    head_bytes: int | None = None


class RemotePredictor:
    """A model behind a V1 or V2 server. `async with` opens its connections; `bind` gives the function to explain.

    With protocol `auto`, rows go in the protocol of the request that is explained. Where the server does not know that
    route they go in the other one, from then on, and where it fails, that once. Before the first question of many rows,
    some of them are asked in every other way too: V1, V2, V2 with binary tensors, and gRPC where grpcio is installed.
    The fastest one whose outputs are the same is how rows of such requests go from then on, for as long as it works;
    `ways` says which, and why.

    Protocol `grpc` asks V2's `ModelInfer` at the host and port of `url`, over TLS where that is `https`, with grpcio.
    `auto` looks for it at `grpc_port`, or where model servers listen beside HTTP (`grpc_predictor.beside`).

    A call takes at most `timeout_s` seconds and `max_rows` rows; more rows are cut into several calls, some of them at
    a time, and into smaller ones where the server answers 413. 429, 503 and broken connections are tried again, three
    times in all.

    Every call is marked as an explainer's by `origin`, with a signature where that has a key. Where nothing listens at
    `url`, calls go to `other_url`, if there is one, for as long as something listens there.

    In a notebook, `with RemotePredictor(...) as predict` gives a function of rows that needs no event loop.
    """

    def __init__(
        self,
        url: str,
        model_name: str,
        schema: Schema,
        *,
        protocol: Spoken = "auto",
        timeout_s: float = 60.0,
        max_rows: int = 10_000,
        origin: Origin | None = None,
        other_url: str | None = None,
        grpc_port: int | None = None,
    ) -> None:
        self._grpc_port = grpc_port
        self._origin = origin or Origin()
        self._addresses = [each.rstrip("/") for each in (url, other_url) if each is not None]
        self.schema = schema
        self.model_name = model_name
        self.timeout_s = timeout_s
        self.max_rows = max_rows
        self.speaks: Dialect | None = None if protocol == "auto" else protocol
        self.fixed = protocol != "auto"
        self.ways: dict[Hashable, Way] = {}
        self.version: str | None = None
        self._session: aiohttp.ClientSession | None = None
        self._channels = GrpcChannels(_MOST_REPLY_BYTES) if protocol == "grpc" else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=16), trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        if self._channels is not None:
            await self._channels.close()

    def __enter__(self) -> BoundPredictor:
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="predictor", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.__aenter__(), loop).result()
        return self.bind(RequestForm.plain(self.schema))

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None) -> None:
        if self._loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self.__aexit__(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def bind(
        self,
        form: RequestForm,
        *,
        headers: Mapping[str, str] | None = None,
        ends: float | None = None,
        schema: Schema | None = None,
    ) -> BoundPredictor:
        """Return the function that asks about rows in this form, with these headers beside ours.

        It may be called in any thread but that of the event loop. `ends` is the time of `time.monotonic` after which no
        call goes on. Rows are encoded as the predictor's own schema has it, unless another is given.
        """
        return BoundPredictor(self, form, headers or {}, ends, schema or self.schema)

    def remember(self, form: Hashable, way: Way) -> None:
        """Keep how rows of such requests go; the oldest knowledge gives way."""
        while len(self.ways) >= _FORMS_KEPT:
            self.ways.pop(next(iter(self.ways)), None)
        self.ways[form] = way
        logger.info("the predictor of %s is asked over %s: %s", self.model_name, *way)

    async def post(self, call: _Call, headers: Mapping[str, str]) -> Reply:
        """Return the predictor's reply to one call. Raises what aiohttp raises."""
        if self._session is None:
            raise PredictorError(f"the connections to the predictor of {self.model_name} are closed")
        marked = {**headers, "Ce-Id": self._origin.mark(), ORIGIN_HEADER: "explain"}
        if call.dialect == "grpc":
            self._channels = self._channels or GrpcChannels(_MOST_REPLY_BYTES)
            address = self.address if self.fixed else beside(self.address, self._grpc_port)
            reply = await self._channels.ask(address, call.body, marked)
        else:
            reply = await self._posted(self._session, call, marked)
        self.version = reply.version or self.version
        return reply

    async def _posted(self, session: aiohttp.ClientSession, call: _Call, headers: Mapping[str, str]) -> Reply:
        kind = "application/json" if call.head_bytes is None else "application/octet-stream"
        length = {} if call.head_bytes is None else {LENGTH_HEADER: str(call.head_bytes)}
        async with session.post(
            self._route(call.dialect),
            data=call.body,
            headers={**headers, "Content-Type": kind, **length},
            allow_redirects=False,  # a redirect could carry the caller's credentials elsewhere
        ) as response:
            reply = bytearray()
            async for chunk in response.content.iter_chunked(1 << 16):
                reply += chunk
                if len(reply) > _MOST_REPLY_BYTES:
                    raise PredictorError(f"the predictor of {self.model_name} answered more than 256 MiB")
            body = bytes(reply)
            return Reply(response.status, body, response.headers.get("Retry-After"), version_of(body))

    @property
    def address(self) -> str:
        """Where the next call goes."""
        return self._addresses[0]

    def turn_from(self, address: str) -> bool:
        """Go to the other address where this is the one in use; return whether there are two."""
        if address == self.address:
            self._addresses.reverse()
        return len(self._addresses) > 1

    def _route(self, dialect: Dialect) -> str:
        name = quote(self.model_name, safe="")
        path = f"/v1/models/{name}:predict" if dialect == "v1" else f"/v2/models/{name}/infer"
        return self.address + path

    def begin(self, work: Coroutine[Any, Any, _Answer]) -> Future[_Answer]:
        """Begin the work in the event loop on behalf of another thread."""
        if self._loop is None:
            work.close()
            raise PredictorError(f"the connections to the predictor of {self.model_name} are not open")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def outcome(self, begun: Future[_Answer], timeout_s: float) -> _Answer:
        """Return what work that was begun returns."""
        try:
            return begun.result(timeout_s + 1.0)  # the second bounds a loop that was stopped meanwhile
        except (TimeoutError, FutureTimeout, FutureCancelled) as fault:
            begun.cancel()
            if isinstance(fault, PredictorTimeout):
                raise
            raise PredictorTimeout(f"the predictor of {self.model_name} was given up") from fault


class BoundPredictor:
    """Asks a remote predictor about rows (r, d) in the form of one request, and counts calls and rows."""

    def __init__(
        self,
        remote: RemotePredictor,
        form: RequestForm,
        headers: Mapping[str, str],
        ends: float | None,
        schema: Schema,
    ) -> None:
        self._remote = remote
        self._form = form
        self._headers = headers
        self._ends = ends
        self._schema = schema
        self.calls = 0
        self.rows = 0

    def __call__(self, rows: Matrix) -> NDArray[Any]:
        """Return the outputs (r,) or (r, k). Raises `PredictorError` or `PredictorTimeout`."""
        remote, kind = self._remote, self._form.kind
        if len(rows) >= WORTH_ROWS and not (remote.fixed or kind in remote.ways or self._form.texts_alone):
            self._probe(rows[:PROBED_ROWS])
        own = self._own
        found = remote.ways[kind].dialect if kind in remote.ways else own
        try:
            return self._ask(found, rows)
        except PredictorTimeout:
            raise
        except PredictorError:
            if found == own:
                raise
            remote.ways.pop(kind, None)
            return self._ask(own, rows)

    @property
    def _own(self) -> Dialect:
        return self._remote.speaks or self._form.protocol

    def _ask(self, dialect: Dialect, rows: Matrix) -> NDArray[Any]:
        """Return the outputs. Asks in the other protocol where the server does not know the route of this one."""
        remote = self._remote
        size = remote.max_rows
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        replies = self._exchange(dialect, parts)
        status = replies[0].status
        if status in (*_NOT_SPOKEN, _FAILED) and not remote.fixed and dialect in TEXT:
            other: Dialect = "v2" if dialect == "v1" else "v1"
            in_other = self._exchange(other, parts)
            if in_other[0].status == 200:
                replies = in_other
                remote.speaks = remote.speaks if status == _FAILED else other  # it may have failed this once
        if any(reply.status == _TOO_LARGE for reply in replies) and len(parts[0]) > 1:
            remote.max_rows = len(parts[0]) // 2
            return self._ask(dialect, rows)
        name = remote.model_name
        return np.concatenate(
            [read_outputs(reply, len(part), name) for reply, part in zip(replies, parts, strict=True)]
        )

    def _probe(self, rows: Matrix) -> None:
        """Find out which way is the fastest of those that answer as the request's own protocol does."""
        remote = self._remote
        self._ask(self._own, rows)  # in the other protocol, or of fewer rows, where the server takes only those
        rows = rows[: remote.max_rows]
        others = [dialect for dialect in known() if dialect != self._own]

        def ask(dialect: Dialect, longest_s: float) -> NDArray[Any]:
            ends = time.monotonic() + longest_s
            probe = BoundPredictor(remote, self._form, self._headers, ends, self._schema)
            self.calls += 1
            self.rows += len(rows)
            reply = remote.outcome(remote.begin(probe._try(probe._written(dialect, rows))), longest_s)
            if reply.status in _BUSY and dialect != "grpc":  # which says so of a server that is not there
                raise PredictorBusy(f"the predictor of {remote.model_name} is busy")
            return read_outputs(reply, len(rows), remote.model_name)

        with suppress(PredictorError):
            remote.remember(self._form.kind, fastest(self._own, others, ask, self._time_left()))

    def _exchange(self, dialect: Dialect, parts: Sequence[Matrix]) -> list[Reply]:
        """Return the replies about each part, some asked at a time; a first one that is not 200 is that to all."""
        remote = self._remote
        self.rows += sum(map(len, parts))
        longest_s = self._time_left() if self._ends is not None else remote.timeout_s * _ATTEMPTS * len(parts)
        replies = [remote.outcome(remote.begin(self._persist(self._written(dialect, parts[0]))), longest_s)]
        if replies[0].status != 200:  # a server that refuses the first is not sent the others
            return replies * len(parts)
        under_way: deque[Future[Reply]] = deque()
        try:
            for part in parts[1:]:
                call = self._written(dialect, part)  # while the server works at those before
                if len(under_way) == _AT_ONCE:
                    replies.append(remote.outcome(under_way.popleft(), longest_s))
                under_way.append(remote.begin(self._persist(call)))
            while under_way:
                replies.append(remote.outcome(under_way.popleft(), longest_s))
        finally:
            for begun in under_way:
                begun.cancel()
        return replies

    def _written(self, dialect: Dialect, rows: Matrix) -> _Call:
        if dialect == "grpc":
            form = self._form.speaking("v2", self._schema)
            return _Call(dialect, write_infer(form, self._remote.model_name, rows, self._schema))
        if dialect == "v2_binary":
            return _Call(dialect, *write_binary(self._form.speaking("v2", self._schema), rows, self._schema))
        return _Call(dialect, self._form.speaking(dialect, self._schema).write(rows, self._schema))

    async def _persist(self, call: _Call) -> Reply:
        """Return the reply to one call, tried again while the server is busy or breaks off."""
        name = self._remote.model_name
        for attempt in range(_ATTEMPTS):
            last = attempt == _ATTEMPTS - 1
            self.calls += 1
            address = self._remote.address
            try:
                reply = await self._once(call)
            except aiohttp.ClientConnectorError as fault:
                if not last and self._remote.turn_from(address):
                    continue
                raise PredictorError(f"the predictor of {name} cannot be reached: {fault}") from fault
            except aiohttp.ClientError as fault:
                if last:
                    reason = str(fault) or type(fault).__name__
                    raise PredictorError(f"the predictor of {name} broke off: {reason}") from fault
                continue
            if reply.status not in _BUSY or last:
                return reply
            if call.dialect == "grpc" and self._remote.fixed:  # which says so of a server that is not there
                self._remote.turn_from(address)
            await self._pause(attempt, reply.retry_after)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _try(self, call: _Call) -> Reply:
        """Return the reply to a call that may fail; again where the connection broke, as after a call before it."""
        with suppress(aiohttp.ClientError):
            return await self._once(call)
        try:
            return await self._once(call)
        except aiohttp.ClientError as fault:
            raise PredictorError(f"the predictor of {self._remote.model_name} broke off: {fault}") from fault

    async def _once(self, call: _Call) -> Reply:
        timeout_s = self._time_left()
        try:
            async with asyncio.timeout(timeout_s):
                return await self._remote.post(call, self._headers)
        except TimeoutError as fault:
            name = self._remote.model_name
            raise PredictorTimeout(f"the predictor of {name} did not answer within {timeout_s:.3g} s") from fault

    def _time_left(self) -> float:
        if self._ends is None:
            return self._remote.timeout_s
        left = self._ends - time.monotonic()
        if left <= 0:
            raise PredictorTimeout(f"no time is left to ask the predictor of {self._remote.model_name}")
        return min(left, self._remote.timeout_s)

    async def _pause(self, attempt: int, retry_after: str | None) -> None:
        wait = random.uniform(0.5, 1.0) * 0.1 * 2**attempt  # noqa: S311 - jitter
        if (wished := seconds_of(retry_after)) is not None:
            wait = wished
        if wait >= self._time_left():
            raise PredictorTimeout(f"the predictor of {self._remote.model_name} is busy for longer than there is time")
        await asyncio.sleep(wait)
