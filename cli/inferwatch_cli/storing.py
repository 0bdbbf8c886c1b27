"""The command `store`: a Kafka topic into the payload log, which is joined, sealed and shown; nothing is judged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from inferwatch.metrics import LagCollector
from inferwatch.payload_log.findings import list_statuses
from inferwatch.payload_log.positions import Positions
from inferwatch.settings import KafkaTransport
from inferwatch.transport.consumer import Subscription
from inferwatch.transport.opening import open_consumer
from inferwatch_cli.bystander import Bystander
from inferwatch_cli.checks import Checked
from inferwatch_cli.kept_log import KeptLog, open_log
from inferwatch_cli.parts import Service, kafka_of
from inferwatch_logger.access import guarded
from inferwatch_logger.topic_reader import TopicReader

logger = logging.getLogger(__name__)


@contextmanager
def open_store(configuration: Checked, data: Path | None = None) -> Iterator[Service]:
    """Yield the API of a log that a topic is read into until the end. Raises `PayloadLogError`, `MissingExtra`."""
    transport = kafka_of(configuration.settings, "store")
    if any(model.settings.detectors for model in configuration.models):
        logger.warning("detectors are configured and none runs here: they run in `up`, with the embedded transport")
    with open_log(configuration, data) as log:
        with log.state.read() as connection:
            judge = Bystander(list_statuses(connection))
        reader = _reader(log, transport)
        log.registry.register(LagCollector(transport.topic, transport.group, reader.lags))
        topic, share = {"topic": reader}, {"topic": reader.share}
        with log.followed(judge, component="store", transport="kafka", further=topic, beside=share) as app:
            reader.start()
            try:
                application = guarded(app, configuration.bearer_token)
                yield Service(application, f"the topic {transport.topic}, payload log in {log.directory}")
            finally:
                reader.stop()


def _reader(log: KeptLog, transport: KafkaTransport) -> TopicReader:
    settings = log.configuration.settings
    positions = Positions(log.journal, transport.topic)
    subscription = Subscription(
        transport.bootstrap,
        transport.topic,
        transport.group,
        positions.member,
        transport.client,
        transport.options,
    )
    return TopicReader(
        partial(open_consumer, subscription),
        log.journal,
        positions,
        log.dead_letter,
        max_body_bytes=settings.ingest.max_body_bytes,
        clock=log.clock,
        redaction=settings.payload_log.redaction(),
        aliases=settings.ingest.type_aliases.aliases(),
    )
