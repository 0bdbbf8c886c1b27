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
        self._room = at_work + waiting
        self._inflight = inflight
        self._queue_depth = queue_depth

    @asynccontextmanager
    async def place(self, timeout_s: float) -> AsyncIterator[None]:
        """Hold a place for the length of the block. Raises `TurnedAway` where none is to be had within the time."""
        if self._room == 0:
            raise TurnedAway
        self._room -= 1
        try:
            await self._enter(timeout_s)
            with self._inflight.track_inprogress():
                try:
                    yield
                finally:
                    self._places.release()
        finally:
            self._room += 1

    async def _enter(self, timeout_s: float) -> None:
        try:
            with self._queue_depth.track_inprogress():
                async with asyncio.timeout(timeout_s):
                    await self._places.acquire()
        except TimeoutError:
            raise TurnedAway from None
