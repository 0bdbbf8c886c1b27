"""A topic read through confluent-kafka."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from inferwatch.delivery.kafka_options import resolved
from inferwatch.errors import TransportError
from inferwatch.transport.consumer import MOST_RECORDS, SESSION_MS, Follower, Record, Subscription

_REACH_S: Final = 2.0
_COMMITTED_S: Final = 5.0
_DEFAULTS: Final[Mapping[str, Any]] = {
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
    "session.timeout.ms": SESSION_MS,
    "queued.max.messages.kbytes": 32_768,
    "fetch.queue.backoff.ms": 10,  # not a second, each time that so much was read ahead
    "reconnect.backoff.max.ms": 1_000,
    "topic.metadata.refresh.interval.ms": 30_000,  # so soon a partition that was added is read
    "socket.keepalive.enable": True,
    "log_level": 0,  # what goes wrong is raised
}


class ConfluentConsumer:
    """A `Consumer` on librdkafka."""

    def __init__(self, subscription: Subscription, follower: Follower) -> None:
        self.ours: frozenset[int] | None = None
        self._telling = 0
        self._topic = subscription.topic
        self._follower = follower
        self._denied: str | None = None
        config = {
            **_DEFAULTS,
            "group.instance.id": subscription.member,
            **resolved(subscription.options or {}),
            "bootstrap.servers": subscription.bootstrap,
            "group.id": subscription.group,
            "error_cb": self._note_trouble,
            "on_commit": self._note_told,
        }
        try:
            self._client = confluent_kafka.Consumer(config)
            self._client.subscribe([self._topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose)
        except KafkaException as error:
            raise TransportError(error.args[0].str()) from error

    @property
    def told(self) -> bool:
        """Whether the group has answered every `commit`."""
        return self._telling == 0

    def poll(self, timeout_s: float, /) -> Sequence[Record]:
        """Return the next records, as soon as there is any."""
        try:
            first = self._client.poll(timeout_s)
            messages = [] if first is None else [first, *self._client.consume(MOST_RECORDS - 1, 0)]
        except KafkaException as error:
            raise TransportError(error.args[0].str()) from error
        if self._denied is not None:
            raise TransportError(self._denied)
        if self.ours is None:  # the partitions went while these were taken: whoever has them next reads them
            return ()
        return [self._record(message) for message in messages]

    def commit(self, positions: Mapping[int, int], /) -> None:
        """Tell the group where to go on in what is ours, without waiting."""
        ours = self.ours or ()
        offsets = [TopicPartition(self._topic, *one) for one in positions.items() if one[0] in ours]
        if not offsets:
            return
        try:
            self._client.commit(offsets=offsets)
        except KafkaException as error:
            raise TransportError(error.args[0].str()) from error
        self._telling += 1

    def reach(self) -> int:
        """Return how many partitions the topic has, where the brokers answer and have it."""
        try:
            topic = self._client.list_topics(self._topic, _REACH_S).topics[self._topic]
        except KafkaException as error:
            raise TransportError(error.args[0].str()) from error
        if topic.error is not None:
            raise TransportError(topic.error.str())
        return len(topic.partitions)

    def ends(self) -> Mapping[int, int]:
        """Return the offset behind the last record of each of our partitions, as far as that is known."""
        ours = self._client.assignment()
        marks = {one.partition: self._client.get_watermark_offsets(one, cached=True) for one in ours}
        return {partition: mark[1] for partition, mark in marks.items() if mark[1] >= 0}

    def close(self) -> None:
        """Leave."""
        self._client.close()

    def _assign(self, client: confluent_kafka.Consumer, partitions: list[TopicPartition]) -> None:
        self.ours = frozenset(one.partition for one in partitions)
        known = [one for one in partitions if self._follower.position(one.partition) is not None]
        committed = {one.partition: one.offset for one in client.committed(known, _COMMITTED_S)} if known else {}
        for one in known:
            one.offset = max(self._follower.position(one.partition) or 0, committed[one.partition])
        client.assign(partitions)

    def _revoke(self, _: confluent_kafka.Consumer, __: list[TopicPartition]) -> None:
        self._follower.leave()
        self.ours = None

    def _lose(self, _: confluent_kafka.Consumer, __: list[TopicPartition]) -> None:
        self.ours = None  # to tell the group something now would get this member thrown out
        self._follower.leave()

    def _note_told(self, _: KafkaError | None, __: list[TopicPartition]) -> None:
        self._telling -= 1  # or refused: then whoever is next reads a few records again

    def _record(self, message: Any) -> Record:  # noqa: ANN401 - its types allow for more than records have
        error = message.error()
        if error is not None:
            raise TransportError(error.str())
        return Record(
            message.partition(), message.offset(), message.timestamp()[1], message.headers() or (), message.value()
        )

    def _note_trouble(self, error: KafkaError) -> None:
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL) or error.fatal():
            self._denied = error.str()  # the secrets may be exchanged meanwhile: only another client reads them
