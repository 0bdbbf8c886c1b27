"""The client that a subscription names, loaded when it is opened."""

from __future__ import annotations

from inferwatch.errors import MissingExtra
from inferwatch.transport.consumer import Consumer, Follower, Subscription


def open_consumer(subscription: Subscription, follower: Follower) -> Consumer:
    """Return a consumer. Raises `ConfigError` for options or their secrets, `MissingExtra`, `TransportError`."""
    if subscription.client == "kafka-python":
        try:
            from inferwatch.transport.consumer_pure import PureConsumer
        except ModuleNotFoundError as error:
            raise MissingExtra("Kafka by the client kafka-python", "kafka-pure") from error
        return PureConsumer(subscription, follower)
    try:
        from inferwatch.transport.consumer_confluent import ConfluentConsumer
    except ModuleNotFoundError as error:
        raise MissingExtra("Kafka", "kafka") from error
    return ConfluentConsumer(subscription, follower)
