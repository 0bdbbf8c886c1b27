"""The command `ingest`: events over HTTP onto a Kafka topic. It keeps nothing, so any number may run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from inferwatch.clock import SystemClock
from inferwatch.delivery.kafka import producer_of
from inferwatch.metrics import AccountCollector
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.transport.forwarder import Forwarder
from inferwatch_cli.checks import Checked
from inferwatch_cli.parts import Service, behind_ingest, kafka_of, own_registry, serve_metrics
from inferwatch_logger.api import intake_app
from inferwatch_logger.modelmesh import ModelMesh

logger = logging.getLogger(__name__)

ACKNOWLEDGED_S: Final = 4.0
"""Seconds that an event waits for the brokers before its sender is told to come again; senders of ours wait for 5."""


@contextmanager
def open_ingest(configuration: Checked, data: Path | None = None) -> Iterator[Service]:
    """Yield the ingest, at work until the end. Dead letters go to `data`, or to the directory of the payload log."""
    settings = configuration.settings
    transport = kafka_of(settings, "ingest")
    clock, registry = SystemClock(), own_registry()
    options = {"linger.ms": 0, **transport.options}  # events are sent in groups as it is
    producer = producer_of(transport.client, transport.bootstrap, options, ACKNOWLEDGED_S)
    directory = data or settings.payload_log.path
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # a container may have nothing to write to, and events need it not
        logger.warning("what is no event is counted and not kept, as there is no directory for it: %s", error)
    dead_letter = DeadLetter(directory, clock=clock, redaction=settings.payload_log.redaction())
    bound = settings.ingest.max_inflight_bytes
    with Forwarder.open(producer, transport.topic, max_inflight_bytes=bound) as forwarder:
        registry.register(AccountCollector("ingest", "http", forwarder.ledger))
        app = intake_app(forwarder, "the brokers")
        serve_metrics(app, registry)
        mesh = ModelMesh(clock, settings.ingest.modelmesh)
        application = behind_ingest(configuration, app, forwarder, dead_letter, mesh)
        yield Service(application, f"onto the topic {transport.topic} of {transport.bootstrap}")
