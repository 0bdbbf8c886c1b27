"""The recorder: begins inferences, makes their events when no request waits for them, and passes these on.

What inferences leave to be done is done in the loop's next turn, so that it delays no answer; under load it is gathered
for up to a hundredth of a second, since an event among many costs less than one alone. Large bodies are redacted by a
thread, since that takes milliseconds.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Final

from inferwatch.events import RESPONSE_TYPE, CloudEvent
from inferwatch.redaction import WITHHELD, Redaction
from inferwatch.wire.attributes import header_text
from inferwatch_logger.capture import Capture
from inferwatch_logger.fail_open import FailOpen
from inferwatch_logger.inference import Headers, Inference, RequestHeaders
from inferwatch_logger.tallies import Tallies

_GATHER_S: Final = 0.01
_LIGHT: Final = 16
"""Up to so many requests and responses in `_GATHER_S`, their events are made in the next turn of the loop."""

_AT_ONCE: Final = 64
"""Of so many inferences events are made before the loop may do something else, or of half of those that wait."""

_MOST_PENDING_BYTES: Final = 67_108_864
"""Of bodies that wait to be redacted; beyond, they are withheld unseen."""

_MODEL: Final = re.compile(r"/v[12]/models/([A-Za-z0-9._-]{1,253})")
_MOST_NAMES: Final = 1_000


class Recorder:
    """Records what `capture` names; `emit` takes the events. To be used on an event loop; without one, events are
    made at once.

    At most 1,000 models are told apart by their names, as anybody can ask for models that there are not; all others
    are captured as requests are that name none.
    """

    def __init__(
        self, capture: Capture, emit: Callable[[CloudEvent], None], *, guarded: FailOpen | None = None
    ) -> None:
        self.capture = capture
        self.tallies = Tallies()
        self.guarded = guarded or FailOpen()
        self._emit = emit
        self._told_apart = capture.by_path or bool(capture.models)
        self._named: dict[str, Capture] = {}
        self._complete: deque[Inference] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._period_s = -math.inf
        """When the present `_GATHER_S` began, by the loop's clock."""
        self._in_period = 0
        """How many requests and responses were complete in it."""
        self._in_last_period = 0
        self._threads: ThreadPoolExecutor | None = None
        self._redacting: dict[Future[CloudEvent], CloudEvent] = {}
        self._pending_bytes = 0

    @property
    def tells_models_apart(self) -> bool:
        """Whether what is captured, or what is said of it, depends on the model that a request is for."""
        return self._told_apart

    def begin(self, method: str, path: str, headers: Headers, model: str | None = None) -> Inference | None:
        """Return what is to be told of this request from now on; None where it is not captured.

        `model`: the one that it is for, where something else than its path says so.
        """
        capture = self._capture_of(path, model) if self._told_apart else self.capture
        given = RequestHeaders(headers)
        first = given.first
        if not capture.takes(method, path, first):
            return None
        sampling = capture.sampling
        if sampling is not None and not sampling.needs_body:
            value = None if sampling.header is None else first.get(sampling.header)
            if sampling.header is not None and value is None:
                self._note_chance()
            if not sampling.takes(None if value is None else header_text(value)):
                self.tallies.sampled_out += 1
                return None
        return Inference(capture, method, path, given, self)

    def later(self, inference: Inference, /) -> None:
        """Let an inference make its events soon, when no request waits for it."""
        self._complete.append(inference)
        loop = self._loop
        if loop is None or not loop.is_running():  # to ask which one runs costs a system call before Python 3.12
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                self.flush()
                return
            self._loop, self._timer, self._period_s = loop, None, -math.inf
        self._in_period += 1
        if self._timer is None:
            self._timer = loop.call_at(self._due_s(loop.time()), self._work)

    def take(self, event: CloudEvent, capture: Capture, /) -> None:
        """Take an event: redact it, count it, and pass it on."""
        redaction = capture.redaction
        if redaction is None:
            self._pass(event)
        elif self._loop is None or not redaction.takes_long(event.data):
            self._pass_redacted(event, redaction.event(event))
        elif self._pending_bytes + len(event.data) > _MOST_PENDING_BYTES:
            self._pass_redacted(event, redaction.event(replace(event, data=WITHHELD)))
        else:
            self._redact_beside(event, redaction, self._loop)

    def is_sampled(self, capture: Capture, body: bytes, /) -> bool:
        """Decide by the request's body whether it is captured."""
        sampling = capture.sampling
        if sampling is None:
            return True
        value = sampling.value_in(body)
        if value is None:
            self._note_chance()
        taken = sampling.takes(value)
        self.tallies.sampled_out += not taken
        return taken

    def flush(self) -> None:
        """Do now what was left to be done."""
        while self._complete:
            self.guarded(self._complete.popleft().make)

    async def aclose(self, timeout_s: float) -> None:
        """Do now what was left to be done, and wait for what is being redacted, for `timeout_s` at most."""
        self.flush()
        threads, self._threads = self._threads, None
        if threads is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await asyncio.get_running_loop().run_in_executor(threads, int)  # its turn comes after all that waits
        threads.shutdown(wait=False, cancel_futures=True)

    def _work(self) -> None:
        self._timer = None
        for _ in range(min(len(self._complete), max(_AT_ONCE, len(self._complete) // 2))):
            self.guarded(self._complete.popleft().make)
        if self._complete and self._loop is not None:
            self._timer = self._loop.call_later(0, self._work)

    def _due_s(self, now_s: float) -> float:
        end_s = self._period_s + _GATHER_S
        if now_s >= end_s:
            self._in_last_period = self._in_period if now_s < end_s + _GATHER_S else 0
            self._in_period, self._period_s, end_s = 1, now_s, now_s + _GATHER_S
        return now_s if max(self._in_period, self._in_last_period) <= _LIGHT else end_s

    def _capture_of(self, path: str, name: str | None) -> Capture:
        if name is None:
            found = _MODEL.match(path)
            if found is None:
                return self.capture
            name = found[1]
        capture = self._named.get(name)
        if capture is None:
            if len(self._named) >= _MOST_NAMES:
                return self.capture
            capture = self._named[name] = self.capture.of_model(name)
        return capture

    def _note_chance(self) -> None:
        self.tallies.sampled_by_chance += 1
        self.guarded.warn("a request has no value that `sample.by` names; it is sampled by chance")

    def _redact_beside(self, event: CloudEvent, redaction: Redaction, loop: asyncio.AbstractEventLoop) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, thread_name_prefix="inferwatch-redaction")
        self._pending_bytes += len(event.data)
        future = self._threads.submit(redaction.event, event)
        self._redacting[future] = event
        future.add_done_callback(lambda done: _call_on(loop, self.guarded, self._take_back, done))

    def _take_back(self, future: Future[CloudEvent]) -> None:
        event = self._redacting.pop(future)
        self._pending_bytes -= len(event.data)
        self._pass_redacted(event, future.result())

    def _pass_redacted(self, event: CloudEvent, redacted: CloudEvent) -> None:
        if redacted.data is WITHHELD:
            self.tallies.withheld[event.type == RESPONSE_TYPE] += 1
        self._pass(redacted)

    def _pass(self, event: CloudEvent) -> None:
        self.tallies.count(event)
        self._emit(event)


def _call_on(
    loop: asyncio.AbstractEventLoop,
    guarded: FailOpen,
    step: Callable[[Future[CloudEvent]], None],
    future: Future[CloudEvent],
) -> None:
    """Run a step on a loop, unless that has ended."""
    with suppress(RuntimeError):  # with the loop ended all that was to be delivered on it
        loop.call_soon_threadsafe(guarded, step, future)
