"""Delivery to a real Kafka broker: one that dies and comes back, and one that asks for TLS and a password."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from inferwatch.delivery.account import Account
from inferwatch.delivery.delivery import Delivery
from inferwatch.delivery.kafka import KafkaSink
from inferwatch.errors import ConfigError, DeliveryError
from inferwatch.events import CloudEvent
from inferwatch_cli.demo.processes import free_port
from tests.components import missing
from tests.kafka_broker import Broker, broker_in, kafka_broker

__all__ = ["kafka_broker"]

pytestmark = pytest.mark.integration

Client = Literal["confluent", "kafka-python"]
CLIENTS: tuple[Client, ...] = ("confluent", "kafka-python")


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 100))


def event(number: int, name: str = "m") -> CloudEvent:
    return CloudEvent(
        f"{number}", "/s", "t", 10**18 + number, "application/json", {"inferenceservicename": name}, b"{}"
    )


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - watches counters from outside, as a scrape does
        await asyncio.sleep(0.01)


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Broker]:
    yield from broker_in(tmp_path / "broker")


@pytest.mark.parametrize("client", CLIENTS)
def test_a_broker_that_is_killed_and_restarted_loses_nothing(mortal: Broker, tmp_path: Path, client: Client) -> None:
    async def test() -> None:
        sink = KafkaSink(f"kafka://{mortal.bootstrap}/t", client=client, timeout_s=5.0)
        delivery = Delivery([sink], spool=tmp_path / "spool", queue_bytes=1 << 22)
        for number in range(2000):
            delivery.emit(event(number))
            if number % 50 == 0:
                await asyncio.sleep(0.005)
            if number == 1000:
                await until(lambda: delivery.account().delivered > 0)
                mortal.kill()
        assert delivery.account().delivered < 2000
        await asyncio.to_thread(mortal.start)
        await until(lambda: delivery.account().delivered == 2000)
        assert delivery.account() == Account(2000, 2000, 0, 0, {})
        await delivery.aclose()
        found = [int(item.id) for item in await asyncio.to_thread(mortal.events, "t", 2000)]
        assert set(found) == set(range(2000))

    run(test())


def test_a_stream_has_one_partition_whichever_client_writes(kafka_broker: Broker) -> None:
    async def test() -> None:
        for client in CLIENTS:
            sink = KafkaSink(f"kafka://{kafka_broker.bootstrap}/keyed", client=client, timeout_s=20.0)
            await sink.send([event(number, f"m{number % 20}") for number in range(100)])
            await sink.aclose()

    run(test())
    partitions: dict[bytes, set[int]] = {}
    for message in kafka_broker.messages("keyed", 200):
        key, partition = message.key(), message.partition()
        assert isinstance(key, bytes)
        assert partition is not None
        partitions.setdefault(key, set()).add(partition)
    assert set(partitions) == {f"default/m{number}/predictor/default".encode() for number in range(20)}
    assert all(len(found) == 1 for found in partitions.values())
    assert len(set.union(*partitions.values())) > 1


def openssl(directory: Path, *arguments: str) -> None:
    if shutil.which("openssl") is None:
        missing("openssl", "apt-get install openssl")
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, str, Path]]:
    """A broker with a second listener for TLS and SASL, that listener, and the certificate to trust."""
    directory = tmp_path_factory.mktemp("guarded")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    openssl(
        directory, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", *subject
    )
    openssl(
        directory,
        "pkcs12",
        "-export",
        "-in",
        "cert.pem",
        "-inkey",
        "key.pem",
        "-out",
        "s.p12",
        "-passout",
        "pass:secret",
    )
    port, secure = free_port(), free_port()
    module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    properties = {
        "listeners": f"PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure},CONTROLLER://127.0.0.1:@CONTROLLER@",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure}",
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": str(directory / "s.p12"),
        "ssl.keystore.password": "secret",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{module} user_watch="pass%word";',
    }
    for broker in broker_in(directory / "broker", properties, port):
        yield broker, f"127.0.0.1:{secure}", directory / "cert.pem"


def options(certificate: Path, password: str) -> dict[str, str]:
    return {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "watch",
        "sasl.password": password,
        "ssl.ca.location": str(certificate),
    }


@pytest.mark.parametrize("client", CLIENTS)
def test_tls_and_a_password(guarded: tuple[Broker, str, Path], client: Client) -> None:
    broker, listener, certificate = guarded

    async def test() -> None:
        url = f"kafka://{listener}/{client}"
        sink = KafkaSink(url, client=client, options=options(certificate, "pass%word"), timeout_s=20.0)
        await sink.send([event(number) for number in range(10)])
        await sink.aclose()
        assert len(await asyncio.to_thread(broker.events, client, 10)) == 10
        for wrong in (options(certificate, "wrong"), {"security.protocol": "SSL"}):
            refused = KafkaSink(url, client=client, options=wrong, timeout_s=3.0)
            with pytest.raises(DeliveryError) as raised:
                await refused.send([event(0)])
            assert raised.value.retryable
            await refused.aclose()

    run(test())


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"no.such.option": "1"}, "no.such.option"),
        ({"acks": "1"}, "acks: is set by inferwatch"),
        ({"security.protocol": "SSL", "ssl.ca.location": "/no/such/file"}, "ssl.ca.location"),
        ({"linger.ms": "soon"}, "linger.ms|queue.buffering.max.ms"),  # which is the same
    ],
)
def test_options_that_cannot_be_used(client: Client, given: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        KafkaSink("kafka://127.0.0.1:1/t", client=client, options=given)


@pytest.mark.parametrize("url", ["kafka://a/t", "kafka://a:1", "kafka://a:1/t/u", "kafka://u:p@a:1/t", "kafka://a:0/t"])
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigError, match="is no URL of a topic"):
        Delivery([url])
