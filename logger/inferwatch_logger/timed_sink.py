"""A sink that notes how long it takes."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Final

from inferwatch.events import CloudEvent
from inferwatch_logger.tallies import Histogram

if TYPE_CHECKING:  # protocols imports NumPy, which a model server need not pay for
    from inferwatch.protocols import Sink

_SECONDS: Final = (0.005, 0.025, 0.1, 0.25, 1.0, 5.0)


class TimedSink:
    """Delivers to another sink, and notes how long that took."""

    def __init__(self, sink: Sink) -> None:
        self.url = str(getattr(sink, "url", type(sink).__name__))
        self.durations = {"success": Histogram(_SECONDS), "failure": Histogram(_SECONDS)}
        self._sink = sink

    @property
    def kind(self) -> str:
        """`http` or `kafka`: the scheme of its URL."""
        return "kafka" if self.url.startswith("kafka:") else "http"

    async def send(self, events: Sequence[CloudEvent], /) -> None:
        """Deliver the events, as the sink does."""
        began = perf_counter()
        outcome = "failure"
        try:
            await self._sink.send(events)
            outcome = "success"
        finally:
            self.durations[outcome].observe(perf_counter() - began)

    async def aclose(self) -> None:
        """Close the sink."""
        await self._sink.aclose()
