"""The predictor of a served model, as a function of rows: what explainers call, over HTTP, marked as theirs."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import PredictorError, PredictorTimeout
from inferwatch.events import EXPLAIN_ID_PREFIX, ORIGIN_HEADER, Role
from inferwatch.rows import Matrix, Rows, Schema
from inferwatch.wire.decode import decode
from inferwatch_explainers.request_form import Protocol, RequestForm

_ATTEMPTS = 3
_BUSY = (429, 503)
_NOT_SPOKEN = (404, 405, 501)
_MOST_REPLY_BYTES = 268_435_456


class _Reply(NamedTuple):
    status: int
    body: bytes
    retry_after: str | None = None


class RemotePredictor:
    """A model behind a V1 or V2 server. `async with` opens its connections; `bind` gives the function to explain.

    With protocol `auto`, rows go in the protocol of the request that is explained, and where the server does not know
    that route in the other one, from then on. A call takes at most `timeout_s` seconds and `max_rows` rows; more rows
    are cut into several calls. 429, 503 and broken connections are tried again, three times in all.

    In a notebook, `with RemotePredictor(...) as predict` gives a function of rows that needs no event loop.
    """

    def __init__(
        self,
        url: str,
        model_name: str,
        schema: Schema,
        *,
        protocol: Literal["auto", "v1", "v2"] = "auto",
        timeout_s: float = 60.0,
        max_rows: int = 10_000,
    ) -> None:
        self.schema = schema
        self.model_name = model_name
        self.timeout_s = timeout_s
        self.max_rows = max_rows
        self.speaks: Protocol | None = None if protocol == "auto" else protocol
        self.fixed = protocol != "auto"
        name = quote(model_name, safe="")
        self._urls: Mapping[Protocol, str] = {
            "v1": f"{url.rstrip('/')}/v1/models/{name}:predict",
            "v2": f"{url.rstrip('/')}/v2/models/{name}/infer",
        }
        self._session: aiohttp.ClientSession | None = None
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
        self, form: RequestForm, *, headers: Mapping[str, str] | None = None, ends: float | None = None
    ) -> BoundPredictor:
        """Return the function that asks about rows in this form, with these headers beside ours.

        It may be called in any thread but that of the event loop. `ends` is the time of `time.monotonic` after which no
        call goes on.
        """
        return BoundPredictor(self, form, headers or {}, ends)

    async def _post(self, protocol: Protocol, body: bytes, headers: Mapping[str, str]) -> _Reply:
        if self._session is None:
            raise PredictorError(f"the connections to the predictor of {self.model_name} are closed")
        marked = {
            **headers,
            "Content-Type": "application/json",
            "Ce-Id": f"{EXPLAIN_ID_PREFIX}{uuid4()}",
            ORIGIN_HEADER: "explain",
        }
        async with self._session.post(
            self._urls[protocol],
            data=body,
            headers=marked,
            allow_redirects=False,  # a redirect could carry the caller's credentials elsewhere
        ) as response:
            reply = bytearray()
            async for chunk in response.content.iter_chunked(1 << 16):
                reply += chunk
                if len(reply) > _MOST_REPLY_BYTES:
                    raise PredictorError(f"the predictor of {self.model_name} answered more than 256 MiB")
            return _Reply(response.status, bytes(reply), response.headers.get("Retry-After"))

    def send(self, protocol: Protocol, body: bytes, headers: Mapping[str, str], timeout_s: float) -> _Reply:
        """Return the predictor's reply to one call; called in a worker's thread.

        Raises `PredictorTimeout` after so many seconds, `PredictorError` where no reply can be had.
        """
        if self._loop is None:
            raise PredictorError(f"the connections to the predictor of {self.model_name} are not open")
        call = asyncio.wait_for(self._post(protocol, body, headers), timeout_s)
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result(timeout_s + 1.0)  # the second bounds a loop that was stopped meanwhile
        except (TimeoutError, FutureTimeout) as fault:
            future.cancel()
            raise PredictorTimeout(
                f"the predictor of {self.model_name} did not answer within {timeout_s:.3g} s"
            ) from fault


class BoundPredictor:
    """Asks a remote predictor about rows (r, d) in the form of one request, and counts the calls."""

    def __init__(
        self, remote: RemotePredictor, form: RequestForm, headers: Mapping[str, str], ends: float | None
    ) -> None:
        self._remote = remote
        self._form = form
        self._headers = headers
        self._ends = ends
        self.calls = 0

    def __call__(self, rows: Matrix) -> NDArray[Any]:
        """Return the outputs (r,) or (r, k). Raises `PredictorError` or `PredictorTimeout`."""
        size = self._remote.max_rows
        return np.concatenate([self._ask(rows[start : start + size]) for start in range(0, len(rows), size)])

    def _ask(self, rows: Matrix) -> NDArray[Any]:
        protocol = self._remote.speaks or self._form.protocol
        reply = self._send(protocol, rows)
        if reply.status in _NOT_SPOKEN and not self._remote.fixed:
            other: Protocol = "v2" if protocol == "v1" else "v1"
            in_other = self._send(other, rows)
            if in_other.status == 200:
                self._remote.speaks, reply = other, in_other
        name = self._remote.model_name
        if reply.status != 200:
            said = " ".join(reply.body[:200].decode("utf-8", "replace").split())
            raise PredictorError(f"the predictor of {name} answered {reply.status}: {said}")
        decoded = decode(reply.body, Role.RESPONSE)
        if decoded.rows is None:
            reason = decoded.fault or f"a {decoded.protocol} reply"
            raise PredictorError(f"the predictor of {name} answered no predictions: {reason}")
        if decoded.rows.count != len(rows):
            raise PredictorError(
                f"the predictor of {name} was asked for {len(rows)} rows and answered {decoded.rows.count}"
            )
        return outputs(decoded.rows)

    def _send(self, protocol: Protocol, rows: Matrix) -> _Reply:
        remote = self._remote
        body = self._form.speaking(protocol, remote.schema).write(rows, remote.schema)
        for attempt in range(_ATTEMPTS):
            last = attempt == _ATTEMPTS - 1
            self.calls += 1
            try:
                reply = remote.send(protocol, body, self._headers, self._time_left())
            except aiohttp.ClientConnectorError as fault:
                raise PredictorError(f"the predictor of {remote.model_name} cannot be reached: {fault}") from fault
            except aiohttp.ClientError as fault:
                if last:
                    reason = str(fault) or type(fault).__name__
                    raise PredictorError(f"the predictor of {remote.model_name} broke off: {reason}") from fault
                continue
            if reply.status not in _BUSY or last:
                return reply
            self._pause(attempt, reply.retry_after)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _time_left(self) -> float:
        if self._ends is None:
            return self._remote.timeout_s
        left = self._ends - time.monotonic()
        if left <= 0:
            raise PredictorTimeout(f"no time is left to ask the predictor of {self._remote.model_name}")
        return min(left, self._remote.timeout_s)

    def _pause(self, attempt: int, retry_after: str | None) -> None:
        wait = random.uniform(0.5, 1.0) * 0.1 * 2**attempt  # noqa: S311 - jitter
        if retry_after is not None and retry_after.isdecimal():
            wait = float(min(int(retry_after), 60))
        if wait >= self._time_left():
            raise PredictorTimeout(f"the predictor of {self._remote.model_name} is busy for longer than there is time")
        time.sleep(wait)


def outputs(rows: Rows) -> NDArray[Any]:
    """Return the outputs of a reply, (r,) or (r, k): a single column as it is, of several those that hold floats.

    Where labels and probabilities come together the probabilities are explained, since they say more; several columns
    of integers are numbers too.
    """
    columns = [column.values for column in rows.columns]
    floats = [values for values in columns if values.dtype.kind == "f"]
    chosen = floats or [values for values in columns if values.dtype.kind in "iu"] or columns
    if len(columns) == 1 or len(chosen) == 1:
        return _numbers_if_all(chosen[0])
    return np.stack(chosen, axis=1)


def _numbers_if_all(values: NDArray[Any]) -> NDArray[Any]:
    """Return a column of mixed integers and floats as floats; anything else as it is."""
    if values.dtype.kind != "O":
        return values
    cells = values.tolist()
    if any(isinstance(cell, float) for cell in cells) and all(type(cell) in (int, float) for cell in cells):
        return values.astype(np.float64)
    return values
