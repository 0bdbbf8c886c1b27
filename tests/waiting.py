"""Waiting until something holds, instead of for a time; and never for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.error import URLError


def eventually(what: str, attempt: Any, seconds: float = 120.0) -> Any:
    """Return the first true answer of `attempt`, asked again until then. A refused connection is no answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if answer := attempt():
                return answer
        except (URLError, ConnectionError):
            pass
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds:g} s")


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine, for two minutes at most."""
    asyncio.run(asyncio.wait_for(test, 120))


async def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Return once the condition holds, watched from outside as a scrape does."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what it asks tells nobody that it changed
            await asyncio.sleep(0.001)
