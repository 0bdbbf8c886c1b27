"""The emitter: takes events without waiting, and delivers them to a sink in the background of the same event loop.

The queue accounts for every event: captured = delivered + queued + in flight + dropped(reason) at any moment. Delivery
is at least once; a retried event has the same id, time and body. The reasons of a drop: `queue_full` (the oldest goes
first), `refused` (the sink will never take it), `expired` (no success within the deadline), `shutdown`, `error` (the
sink raised what no sink should), and `damaged` (the queue file no longer held what was put there).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Sequence
from time import time
from typing import TYPE_CHECKING, Final

from inferwatch.delivery.account import Account
from inferwatch.delivery.outcomes import outcomes_of
from inferwatch.errors import DeliveryError
from inferwatch.events import CloudEvent

if TYPE_CHECKING:  # protocols imports NumPy, which a model server need not pay for
    from inferwatch.delivery.queue import Queue, Queued
    from inferwatch.protocols import Sink

logger = logging.getLogger(__name__)

_BATCH_EVENTS: Final = 64
_BATCH_BYTES: Final = 2 * 1024 * 1024
_TRIALS: Final = 16
"""After a send of which nothing got through, so many must succeed before several run at once again."""
_FIRST_DELAY_S: Final = 0.1
_LONGEST_DELAY_S: Final = 10.0
_LONGEST_WISH_S: Final = 300.0


class _SinkFault(DeliveryError):
    """A sink raised what no sink should."""


class Emitter:
    """Delivers events to a sink. `emit` is to be called on an event loop; nothing starts before the first event.

    `linger_s`: how long the first event waits for others, so that many travel together. `lanes`: how many sends may run
    at once while there is a backlog and none fails, nor did lately. `deadline_s`: an event that could not be delivered
    for so long is dropped. Failed sends are repeated after 0.1 s, doubled up to 10 s, with jitter, or after the sink's
    `Retry-After`, up to 300 s.
    """

    def __init__(
        self, sink: Sink, queue: Queue, *, linger_s: float = 0.025, lanes: int = 4, deadline_s: float = 3600.0
    ) -> None:
        self._sink = sink
        self._queue = queue
        self._linger_s = linger_s
        self._max_lanes = lanes
        self._deadline_s = deadline_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lanes: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._pausing = False
        self._failures = 0
        self._trials = 0
        self._closed = False

    def account(self) -> Account:
        """Return where every event is."""
        return self._queue.account()

    def emit(self, event: CloudEvent) -> None:
        """Take an event; it is sent later, or dropped and counted."""
        self._queue.put(event, time())
        self.wake()

    def wake(self) -> None:
        """Deliver what the queue holds, soon."""
        if self._closed:
            return
        if self._loop is None or not self._loop.is_running():  # to ask which one runs costs a system call before 3.12
            self._adopt(asyncio.get_running_loop())
        if self._timer is None and len(self._lanes) < self._max_lanes and self._backlogged():
            self._start_after(self._linger_s)

    async def aclose(self, timeout_s: float = 5.0) -> None:
        """Deliver what is queued, for `timeout_s` at most, leave the rest to the queue and close the sink."""
        self._closed = True
        self._adopt(asyncio.get_running_loop())
        self._cancel_timer()
        self._failures = 0
        try:
            async with asyncio.timeout(timeout_s):
                await self._drain()
        except TimeoutError:
            pass
        await self._stop_lanes()
        self._queue.close()
        await self._sink.aclose()

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Forget what ran on a loop before this one: it is closed, and its lanes have put back what they had."""
        if loop is not self._loop:
            self._loop = loop
            self._lanes = set()
            self._timer = None
            self._pausing = False

    def _backlogged(self) -> bool:
        if not self._lanes or self._trials:  # over a slow line one may succeed where four time out
            return not self._lanes
        return len(self._queue) > _BATCH_EVENTS or self._queue.waiting_bytes > _BATCH_BYTES

    def _start_after(self, delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._start)

    def _start(self) -> None:
        self._timer = None
        self._pausing = False
        lane = asyncio.get_running_loop().create_task(self._run())
        self._lanes.add(lane)
        lane.add_done_callback(self._lanes.discard)  # also where it was cancelled before it began

    async def _run(self) -> None:
        try:
            await self._deliver()
        finally:  # at once: an event that comes from here on needs another lane
            if (lane := asyncio.current_task()) is not None:
                self._lanes.discard(lane)
        if len(self._queue):
            self.wake()

    async def _deliver(self) -> None:
        emptied = False
        while not emptied and not self._pausing and (items := self._queue.take(_BATCH_EVENTS, _BATCH_BYTES)):
            emptied = not self._closed and not len(self._queue)  # then what comes meanwhile waits for others too
            waiting: Sequence[Queued] = items
            try:
                waiting = self._settle(items, await self._attempt(items))
            finally:  # also when cancelled
                if waiting:
                    self._queue.restore(waiting)

    async def _attempt(self, items: Sequence[Queued]) -> Sequence[DeliveryError | None]:
        try:
            await self._sink.send([item.event for item in items])
        except DeliveryError as error:
            return outcomes_of(error, len(items))
        except Exception as error:  # a fault of the sink's own must not end delivery
            logger.exception("a sink failed; %d events are lost", len(items))
            return (_SinkFault(repr(error), retryable=False),) * len(items)
        return (None,) * len(items)

    def _settle(self, items: Sequence[Queued], outcomes: Sequence[DeliveryError | None]) -> Sequence[Queued]:
        """Account for the items and return those to be sent again."""
        expired_s = time() - self._deadline_s
        waiting: list[Queued] = []
        done: defaultdict[str | None, list[Queued]] = defaultdict(list)
        for item, outcome in zip(items, outcomes, strict=True):
            if outcome is not None and outcome.retryable and item.since_s > expired_s:
                waiting.append(item)
            else:
                done[None if outcome is None else _reason(outcome)].append(item)
        for reason, settled in done.items():
            self._queue.settle(settled, reason)
        self._back_off(outcomes)
        return waiting

    def _back_off(self, outcomes: Sequence[DeliveryError | None]) -> None:
        """Pause after failures: longer each time that nothing at all got through."""
        failed = [outcome for outcome in outcomes if outcome is not None and outcome.retryable]
        if len(failed) < len(outcomes) and self._failures:
            logger.info("delivery works again")
            self._failures = 0
        self._trials = _TRIALS if len(failed) == len(outcomes) else max(0, self._trials - 1)
        if not failed or self._pausing:
            return
        if not self._failures:
            logger.warning("delivery fails and is repeated: %s", failed[0])
        delay_s = min(_FIRST_DELAY_S * 2.0 ** min(self._failures, 16), _LONGEST_DELAY_S)
        wish_s = max((outcome.retry_after_s or 0.0) for outcome in failed)
        self._failures += 1
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
        self._cancel_timer()
        self._pausing = True
        self._start_after(max(delay_s * jitter, min(wish_s, _LONGEST_WISH_S)))

    async def _drain(self) -> None:
        while self._lanes or len(self._queue):
            if self._lanes:
                await asyncio.wait(set(self._lanes))
            elif self._pausing and self._timer is not None:
                await asyncio.sleep(self._timer.when() - asyncio.get_running_loop().time())
            else:
                self._cancel_timer()
                self._start()

    async def _stop_lanes(self) -> None:
        self._cancel_timer()
        lanes = set(self._lanes)
        for lane in lanes:
            lane.cancel()
        if lanes:
            await asyncio.wait(lanes)
        self._cancel_timer()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._pausing = False


def _reason(error: DeliveryError) -> str:
    if isinstance(error, _SinkFault):
        return "error"
    return "expired" if error.retryable else "refused"
