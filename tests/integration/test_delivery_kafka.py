"""Delivery to a real Kafka broker: one that dies and comes back, and one that asks for TLS and a password."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from inferwatch.delivery.account import Account
from inferwatch.delivery.delivery import Delivery
from inferwatch.delivery.kafka import KafkaSink
from inferwatch.delivery.spool import spooled_accounts
from inferwatch.errors import ConfigError, DeliveryError
from inferwatch.events import CloudEvent
from inferwatch_cli.demo.processes import free_port
from tests.certificates import authority, signed
from tests.core.delivery.scripted_sink import scripted_sink
from tests.kafka_broker import Broker, broker_in, kafka_broker
from tests.waiting import until

__all__ = ["kafka_broker"]

pytestmark = pytest.mark.integration

Client = Literal["confluent", "kafka-python"]
CLIENTS: tuple[Client, ...] = ("confluent", "kafka-python")
WORD = "pass%word"


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 300))


def event(number: int, name: str = "m") -> CloudEvent:
    return CloudEvent(
        f"{number}", "/s", "t", 10**18 + number, "application/json", {"inferenceservicename": name}, b"{}"
    )


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


LISTENERS = ("SASL_SSL", "SASL_PLAINTEXT", "SSL")


@dataclass(frozen=True)
class Guarded:
    """A broker that asks for TLS, for a password, or for both, each on a listener of its own."""

    broker: Broker
    listeners: Mapping[str, str]
    certificates: Path

    def options(self, protocol: str, word: str = WORD, ca: str = "ca.pem") -> dict[str, str]:
        given = {"security.protocol": protocol}
        if "SSL" in protocol.split("_"):
            given["ssl.ca.location"] = str(self.certificates / ca)
        if protocol == "SSL":  # where who writes is known by a certificate
            given["ssl.certificate.location"] = str(self.certificates / "client.pem")
            given["ssl.key.location"] = str(self.certificates / "client.key")
        else:
            given |= {"sasl.mechanism": "PLAIN", "sasl.username": "watch", "sasl.password": word}
        return given


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
    for name in ("ca", "other"):
        authority(directory, name)
    signed(directory, "client", "ca")
    certificate, key = signed(directory, "server", "ca")
    (directory / "keystore.pem").write_text(key.read_text() + certificate.read_text())
    plain, addresses = free_port(), {name: f"127.0.0.1:{free_port()}" for name in LISTENERS}
    advertised = ",".join(f"{name}://{address}" for name, address in addresses.items())
    module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    properties = {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},{advertised},CONTROLLER://127.0.0.1:@CONTROLLER@",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},{advertised}",
        "listener.security.protocol.map": ",".join(f"{name}:{name}" for name in ("PLAINTEXT", *LISTENERS))
        + ",CONTROLLER:PLAINTEXT",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(directory / "keystore.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(directory / "ca.pem"),
        "listener.name.ssl.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{module} user_watch="{WORD}";',
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": f'{module} user_watch="{WORD}";',
    }
    for broker in broker_in(directory / "broker", properties, plain):
        yield Guarded(broker, addresses, directory)


@pytest.mark.parametrize("protocol", LISTENERS)
@pytest.mark.parametrize("client", CLIENTS)
def test_tls_and_passwords(guarded: Guarded, client: Client, protocol: str) -> None:
    wrong = {
        "SASL_SSL": [guarded.options("SASL_SSL", word="wrong"), guarded.options("SASL_SSL", ca="other.pem")],
        "SASL_PLAINTEXT": [guarded.options("SASL_PLAINTEXT", word="wrong")],
        "SSL": [{"security.protocol": "SSL", "ssl.ca.location": str(guarded.certificates / "ca.pem")}],
    }

    async def test() -> None:
        topic = f"{client}-{protocol}"
        url = f"kafka://{guarded.listeners[protocol]}/{topic}"
        sink = KafkaSink(url, client=client, options=guarded.options(protocol), timeout_s=20.0)
        await sink.send([event(number) for number in range(10)])
        await sink.aclose()
        assert len(await asyncio.to_thread(guarded.broker.events, topic, 10)) == 10
        for options in wrong[protocol]:
            refused = KafkaSink(url, client=client, options=options, timeout_s=2.0)
            with pytest.raises(DeliveryError) as raised:
                await refused.send([event(0)])
            assert raised.value.retryable
            await refused.aclose()

    run(test())


def test_several_sinks_at_once_each_at_its_own_position(kafka_broker: Broker, tmp_path: Path) -> None:
    async def test() -> None:
        async with scripted_sink() as server:
            late = f"http://127.0.0.1:{free_port()}"
            clients = [
                KafkaSink(f"kafka://{kafka_broker.bootstrap}/several-{client}", client=client) for client in CLIENTS
            ]
            delivery = Delivery([server.url, *clients, late], spool=tmp_path, queue_bytes=1 << 22)
            for number in range(200):
                delivery.emit(event(number))
            await until(lambda: [one.delivered for one in delivery.accounts().values()] == [200, 200, 200, 0])
            await delivery.aclose(0.1)
            assert [one.queued for one in delivery.accounts().values()] == [0, 0, 0, 200]
            assert server.ids == [str(number) for number in range(200)]
            assert spooled_accounts(tmp_path) == delivery.accounts()
            for client in CLIENTS:
                found = await asyncio.to_thread(kafka_broker.events, f"several-{client}", 200)
                assert [int(one.id) for one in found] == list(range(200))

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
