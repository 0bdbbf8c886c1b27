"""A topic read through kafka-python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from kafka import AsyncConsumerRebalanceListener, KafkaConsumer, TopicPartition, errors
from kafka.future import Future
from kafka.structs import OffsetAndMetadata

from inferwatch.delivery.kafka_pure import knock
from inferwatch.delivery.kafka_python_options import translated
from inferwatch.errors import TransportError
from inferwatch.transport.consumer import MOST_RECORDS, SESSION_MS, Follower, Record, Subscription

_REACH_S: Final = 2.0
_DEFAULTS: Final[Mapping[str, Any]] = {
    "auto_offset_reset": "earliest",
    "enable_auto_commit": False,
    "isolation_level": "read_committed",
    "session_timeout_ms": SESSION_MS,
    "allow_auto_create_topics": False,
    "bootstrap_timeout_ms": 5_000,
    "metadata_max_age_ms": 30_000,  # so soon a topic or a partition that was added is read
    "reconnect_backoff_max_ms": 1_000,
    "metrics_enabled": False,
}


class PureConsumer:
    """A `Consumer` on kafka-python."""

    def __init__(self, subscription: Subscription, follower: Follower) -> None:
        self.ours: frozenset[int] | None = None
        self._bootstrap = subscription.bootstrap
        self._topic = subscription.topic
        self._follower = follower
        self._begun: dict[TopicPartition, int] = {}
        self._telling: Future | None = None
        config = {
            **_DEFAULTS,
            "group_instance_id": subscription.member,
            **translated(subscription.options or {}, "consumer"),
            "bootstrap_servers": subscription.bootstrap.split(","),
            "group_id": subscription.group,
        }
        with _translated():
            knock(self._bootstrap, _REACH_S)
            self._client = KafkaConsumer(**config)
            self._client.subscribe([self._topic], listener=_Listener(self))

    @property
    def told(self) -> bool:
        """Whether the group has answered every `commit`."""
        return self._telling is None or self._telling.is_done

    def poll(self, timeout_s: float, /) -> Sequence[Record]:
        """Return the next records, as soon as there is any."""
        with _translated():
            found = self._client.poll(timeout_ms=round(timeout_s * 1000), max_records=MOST_RECORDS)
            while self._begun:  # where another member read on meanwhile, the group stands further
                one, position = self._begun.popitem()
                found.pop(one, None)
                if one in self._client.assignment():
                    self._client.seek(one, max(position, self._client.committed(one) or 0))
        return [
            Record(one.partition, one.offset, one.timestamp, one.headers, one.value)
            for records in found.values()
            for one in records
        ]

    def commit(self, positions: Mapping[int, int], /) -> None:
        """Tell the group where to go on in what is ours, without waiting."""
        ours = self.ours or ()
        offsets = {
            TopicPartition(self._topic, partition): OffsetAndMetadata(offset, "", -1)
            for partition, offset in positions.items()
            if partition in ours
        }
        if offsets:
            with _translated():
                self._telling = self._client.commit_async(offsets)

    def reach(self) -> int:
        """Return how many partitions the topic has, where the brokers answer and have it."""
        with _translated():
            knock(self._bootstrap, _REACH_S)
            partitions = self._client.partitions_for_topic(self._topic)
        if not partitions:
            raise TransportError(f"there is no topic {self._topic}")
        return len(partitions)

    def ends(self) -> Mapping[int, int]:
        """Return the offset behind the last record of each of our partitions, as far as that is known."""
        marks = {one.partition: self._client.highwater(one) for one in self._client.assignment()}
        return {partition: mark for partition, mark in marks.items() if mark is not None}

    def close(self) -> None:
        """Leave."""
        self._client.close(autocommit=False)

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Go on in partitions from where the follower stands; inside of a rebalance the group cannot be asked."""
        self.ours = frozenset(one.partition for one in partitions)
        for one in partitions:
            position = self._follower.position(one.partition)
            if position is not None:
                self._client.seek(one, position)
                self._begun[one] = position

    async def revoke(self) -> None:
        """Let the follower finish, and the group know of it."""
        self._follower.leave()
        self.ours = None
        if self._telling is not None:
            with suppress(errors.KafkaError):  # then whoever is next reads a few records again
                await self._telling

    def lose(self) -> None:
        """Let the follower finish; the group has others by now and asks them."""
        self.ours = None
        self._follower.leave()


class _Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    def __init__(self, consumer: PureConsumer) -> None:
        self._consumer = consumer

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        self._consumer.assign(assigned)

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:  # noqa: ARG002 - the name is theirs
        await self._consumer.revoke()

    async def on_partitions_lost(self, lost: Sequence[TopicPartition]) -> None:  # noqa: ARG002 - the name is theirs
        self._consumer.lose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except errors.KafkaError as error:
        raise TransportError(str(error)) from error
