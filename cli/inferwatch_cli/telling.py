"""Where explanations are told of: the payload log of this process, or an ingest elsewhere."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inferwatch.delivery.delivery import Delivery
from inferwatch.errors import ConfigError, Fault, PayloadLogError
from inferwatch.events import CloudEvent
from inferwatch.explanation_event import keepable
from inferwatch.payload_log.journal import Journal
from inferwatch.redaction import Redaction
from inferwatch_explainers.recording import Record

logger = logging.getLogger(__name__)


def to_journal(journal: Journal, redaction: Redaction) -> Record:
    """Return what appends explanations to a journal, without what is not to be kept."""

    def record(event: CloudEvent) -> None:
        kept = keepable(event, redaction)
        try:
            journal.append([event for event in (kept,) if event is not None])
        except PayloadLogError as fault:  # counted as refused by the journal; the answer does not depend on it
            logger.warning("an explanation is not kept: %s", fault)

    return record


def delivery_to(sink: str) -> Delivery:
    """Return what sends explanations to an ingest. Raises `ConfigError` for a sink that cannot be used."""
    try:
        return Delivery([sink])
    except ConfigError as error:
        raise ConfigError([Fault("explain.sink", fault.message) for fault in error.faults]) from error


def running(delivery: Delivery) -> Callable[[object], AbstractAsyncContextManager[None]]:
    """Return the lifespan of an application with a delivery; its end sends what waits."""

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        delivery.start()
        try:
            yield
        finally:
            await delivery.aclose()

    return lifespan


class ToldCollector(Collector):
    """Counts the events of explanations by what became of them."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    def collect(self) -> Iterator[Metric]:
        """Yield both families."""
        account = self._delivery.account()
        events = CounterMetricFamily(
            "inferwatch_explain_events", "Events of explanations by what became of them.", labels=("outcome",)
        )
        events.add_metric(("delivered",), account.delivered)
        events.add_metric(("dropped",), sum(account.dropped.values()))
        yield events
        waiting = account.queued + account.in_flight
        yield GaugeMetricFamily("inferwatch_explain_events_waiting", "Events that wait for the sink.", value=waiting)
