"""Capture in small ASGI applications, and the events that come of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from inferwatch.delivery.memory import MemorySink
from inferwatch.events import CloudEvent
from inferwatch_logger import CaptureMiddleware
from tests.logger.asgi import PLAIN, App, call


def captured(test: Callable[[Callable[..., CaptureMiddleware]], Coroutine[Any, Any, Any]]) -> list[CloudEvent]:
    """Run a test with a factory of middlewares and return what reached the sink."""
    sink = MemorySink()
    made: list[CaptureMiddleware] = []

    def wrap(app: App = PLAIN, **options: Any) -> CaptureMiddleware:
        given: dict[str, Any] = {"sink": sink, "name": "income", "namespace": "prod"} | options
        made.append(CaptureMiddleware(app, **given))
        return made[-1]

    async def whole() -> None:
        await asyncio.wait_for(test(wrap), 120)
        for middleware in made:
            await middleware.aclose()
            assert middleware.errors == 0

    asyncio.run(whole())
    return sink.events


def one_call(*, app: App = PLAIN, options: dict[str, Any] | None = None, **request: Any) -> list[CloudEvent]:
    return captured(lambda wrap: call(wrap(app, **(options or {})), **request))
