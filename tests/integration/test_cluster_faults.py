"""`ingest`, `store` and the broker killed under load: what was acknowledged is stored, once."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from inferwatch.payload_log.journal import Journal
from inferwatch_cli.demo.processes import free_port
from tests.integration.cluster import CLIENTS, RECOVERY_S, Client, Cluster, Sender, sending
from tests.integration.served import Served
from tests.integration.test_cluster import ingest_ledger, until
from tests.kafka_broker import Broker, broker_in, kafka_broker
from tests.waiting import eventually

__all__ = ["kafka_broker"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

KILLS = 8

Events = Sequence[tuple[str, str]]
"""Id and type of each."""


def kill(it: Served) -> None:
    it.process.send_signal(signal.SIGKILL)
    it.process.wait()


def acknowledged(senders: list[Sender]) -> set[tuple[str, str]]:
    return {event for sender in senders for event in sender.acknowledged}


def assert_stored_once(cluster: Cluster, senders: list[Sender], records: int) -> None:
    """Compare the log with what was acknowledged, and its account with the records of the topic."""
    with Journal.open(cluster.data) as journal:
        stored = [(entry.event.id, entry.event.type) for entry in journal.read(0, 10**6)]
        ledger = journal.ledger()
    assert len(stored) == len(set(stored))
    missing = acknowledged(senders) - set(stored)
    assert not missing
    assert ledger.stored == len(stored)
    assert ledger.received == records, "each record of the topic is received once"
    assert_in_order(stored, senders)


def assert_in_order(stored: Events, senders: Sequence[Sender]) -> None:
    """Compare the order of each model's events with that of each sender, which waits for each answer."""
    for sender in senders:
        own = [int(identity.split("-")[1]) for identity, _ in stored if identity.startswith(f"{sender.name}-")]
        for model in range(sender.models):
            of_model = [number for number in own if number % sender.models == model]
            assert of_model == sorted(of_model)


@pytest.mark.parametrize("client", CLIENTS)
def test_both_ends_killed_at_random_moments(kafka_broker: Broker, tmp_path: Path, client: Client) -> None:
    chance = random.Random(7)  # noqa: S311 - a seed for the moments
    cluster = Cluster(tmp_path, kafka_broker.bootstrap, f"killed-{uuid4()}", client)
    ports = {"ingest": free_port(), "store": free_port()}
    with ExitStack() as stack:
        at_work = {command: stack.enter_context(cluster.running(command, port=port)) for command, port in ports.items()}
        with sending(ports["ingest"]) as senders:
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.1, 1.5))
                command = chance.choice(["ingest", "store"])
                kill(at_work[command])
                at_work[command] = stack.enter_context(cluster.running(command, port=ports[command], until="/healthz"))
            at_work["ingest"].await_status("/readyz", 200, cluster.log("ingest"))
            before = len(acknowledged(senders))
            eventually("events are taken again", lambda: len(acknowledged(senders)) > max(before, 100))
        records = kafka_broker.records(cluster.topic)
        until(at_work["store"], records)
    assert_stored_once(cluster, senders, records)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_broker_killed_and_restarted_under_load(tmp_path: Path, client: Client) -> None:
    cluster = Cluster(tmp_path, f"127.0.0.1:{free_port()}", "mortal", client)
    port = int(cluster.bootstrap.partition(":")[2])
    for broker in broker_in(tmp_path / "broker", port=port):
        with cluster.running("ingest") as ingest, cluster.running("store") as store:
            with sending(int(ingest.url.rpartition(":")[2])) as senders:
                for _ in range(2):
                    time.sleep(1.5)
                    broker.kill()
                    body = ingest.await_status("/readyz", 503, cluster.log("ingest"), RECOVERY_S)
                    assert b"brokers" in body
                    eventually("senders are refused", lambda: any(sender.refused for sender in senders))
                    store.await_status("/readyz", 503, cluster.log("store"), RECOVERY_S)
                    broker.start()
                    ingest.await_status("/readyz", 200, cluster.log("ingest"), RECOVERY_S)
                    store.await_status("/readyz", 200, cluster.log("store"), RECOVERY_S)
                time.sleep(1)
            found = ingest_ledger(ingest)
            assert found["stored"] == sum(len(sender.acknowledged) for sender in senders)
            refused = sum(len(sender.refused) for sender in senders)
            assert found["refused"] == {"unavailable": refused}
            records = broker.records("mortal")
            until(store, records)
        assert_stored_once(cluster, senders, records)
