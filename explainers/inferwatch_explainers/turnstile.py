"""A turnstile: so many at work, so many waiting, everybody else turned away at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import Gauge


class TurnedAway(Exception):
    """No place was free, or none became free in time."""


class Turnstile:
    """Lets `at_work` enter at a time and `waiting` wait; the gauges follow."""

    def __init__(self, at_work: int, waiting: int, *, inflight: Gauge, queue_depth: Gauge) -> None:
        self._places = asyncio.Semaphore(at_work)
        self._waiting_limit = waiting
        self._waiting = 0
        self._inflight = inflight
        self._queue_depth = queue_depth

    @asynccontextmanager
    async def place(self, timeout_s: float) -> AsyncIterator[None]:
        """Hold a place for the length of the block. Raises `TurnedAway` where none is to be had within the time."""
        await self._enter(timeout_s)
        self._inflight.inc()
        try:
            yield
        finally:
            self._inflight.dec()
            self._places.release()

    async def _enter(self, timeout_s: float) -> None:
        if self._places.locked() and self._waiting >= self._waiting_limit:
            raise TurnedAway
        self._waiting += 1
        self._queue_depth.set(self._waiting)
        try:
            await asyncio.wait_for(self._places.acquire(), timeout_s)
        except TimeoutError:
            raise TurnedAway from None
        finally:
            self._waiting -= 1
            self._queue_depth.set(self._waiting)
