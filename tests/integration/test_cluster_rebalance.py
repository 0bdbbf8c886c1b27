"""Two `inferwatch store` share a topic while one joins, leaves and is killed: together they have what was acknowledged,
once, and each model's events in one place but for the moments in which partitions moved."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from inferwatch.payload_log.reader import JournalReader
from tests.integration.cluster import CLIENTS, Client, Cluster, sending
from tests.integration.served import Served
from tests.integration.test_cluster import ingest_ledger
from tests.integration.test_cluster_faults import Events, acknowledged, assert_in_order, kill
from tests.kafka_broker import Broker, kafka_broker
from tests.waiting import eventually

__all__ = ["kafka_broker"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

PARTITIONS = 4
"""Of a topic that nobody made, at the broker of the tests."""
PATIENCE_S = 120.0


def until_read(it: Served, more: int = 100) -> None:
    """Wait until a store has received so many records more than now."""
    goal = ingest_ledger(it)["received"] + more
    eventually(f"{goal} records are read", lambda: ingest_ledger(it)["received"] >= goal, PATIENCE_S)


def until_reading(it: Served, partitions: int) -> None:
    """Wait until a store says that it reads so many partitions."""

    def says() -> bool:
        warnings = it.get("/readyz").get("warnings", [])
        if partitions == PARTITIONS:
            return not warnings
        return any(f"{partitions} of {PARTITIONS} partitions are read here" in warning for warning in warnings)

    eventually(f"{partitions} partitions are read", says, PATIENCE_S)


def stored(directory: Path) -> Events:
    with JournalReader(directory) as journal:
        return [(entry.event.id, entry.event.type) for entry in journal.read(0, 10**6)]


@pytest.mark.parametrize("client", CLIENTS)
def test_partitions_move_between_two_stores_under_load(kafka_broker: Broker, tmp_path: Path, client: Client) -> None:
    quickly = {"session.timeout.ms": 6000}  # as a broker allows: so soon the partitions of one that left are another's
    cluster = Cluster(tmp_path, kafka_broker.bootstrap, f"moved-{uuid4()}", client, quickly)
    directories = [tmp_path / name for name in ("first", "second")]
    first, second = [("store", "--data", str(directory)) for directory in directories]
    with ExitStack() as stack:
        ingest = stack.enter_context(cluster.running("ingest"))
        one = stack.enter_context(cluster.running(*first))
        with sending(int(ingest.url.rpartition(":")[2]), models=16) as senders:
            until_reading(one, PARTITIONS)
            with cluster.running(*second) as other:
                for it in (one, other):
                    until_reading(it, PARTITIONS // 2)
                    until_read(it)
            until_reading(one, PARTITIONS)
            until_read(one)
            assert not set(stored(directories[0])) & set(stored(directories[1]))
            other = stack.enter_context(cluster.running(*second))
            until_reading(other, PARTITIONS // 2)
            until_read(other)
            kill(one)
            until_reading(other, PARTITIONS)
            until_read(other)
        sent = acknowledged(senders)
        eventually("all is stored", lambda: sent <= set().union(*map(stored, directories)), PATIENCE_S)
    logs = [stored(directory) for directory in directories]
    repeated = set(logs[0]) & set(logs[1])
    assert len(logs[0]) + len(logs[1]) == kafka_broker.records(cluster.topic) + len(repeated)
    assert len(repeated) < 100, "what a killed store had not told the group is a fraction of a second's"
    for log in logs:
        assert len(log) == len(set(log))
        assert_in_order(log, senders)
    halved = {name for name, _ in logs[0]} & {name for name, _ in logs[1]} - {name for name, _ in repeated}
    assert len(halved) <= 4 * PARTITIONS * len(senders), "a sender is within one pair when a partition moves"
