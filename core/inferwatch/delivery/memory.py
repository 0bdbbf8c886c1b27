"""A sink that keeps events in memory, for tests and notebooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from inferwatch.delivery.outcomes import PartialDelivery
from inferwatch.errors import DeliveryError
from inferwatch.events import CloudEvent


class MemorySink:
    """Keeps what it is sent in `events`.

    `verdict` decides on each event: None takes it, an error refuses it, retryable or not. `sends` counts calls.
    """

    def __init__(self, verdict: Callable[[CloudEvent], DeliveryError | None] = lambda _: None) -> None:
        self.events: list[CloudEvent] = []
        self.sends = 0
        self.closed = False
        self._verdict = verdict

    async def send(self, events: Sequence[CloudEvent], /) -> None:
        """Keep the events that the verdict allows; raises `DeliveryError` for the others."""
        self.sends += 1
        outcomes = [self._verdict(event) for event in events]
        self.events += [event for event, outcome in zip(events, outcomes, strict=True) if outcome is None]
        if any(outcomes):
            raise PartialDelivery(outcomes)

    async def aclose(self) -> None:
        """Note that nothing follows."""
        self.closed = True
