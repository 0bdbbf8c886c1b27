"""The cluster's path from end to end: sidecar or KServe's agent, a real broker, `ingest` and `store`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import confluent_kafka
import numpy as np
import pytest

from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE
from inferwatch_cli.demo.processes import free_port
from tests.integration.cluster import CLIENTS, RECOVERY_S, Client, Cluster, headers, post
from tests.integration.served import Served
from tests.integration.test_delivery_kafka import WORD, Guarded, guarded
from tests.integration.test_proxy import ask, echo, proxy, server
from tests.kafka_broker import Broker, broker_in, kafka_broker
from tests.waiting import eventually

__all__ = ["guarded", "kafka_broker"]

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def ingest_ledger(it: Served) -> dict[str, Any]:
    """Return the account of `ingest` or `store`, which sums."""
    found: dict[str, Any] = it.get("/api/ledger")["ingest"]
    labelled = sum(sum(found[name].values()) for name in ("ignored", "malformed", "refused"))
    assert found["received"] == found["stored"] + found["duplicate"] + labelled
    return found


def until(it: Served, received: int) -> dict[str, Any]:
    """Wait until so many events were received."""
    deadline = time.monotonic() + RECOVERY_S
    while (found := ingest_ledger(it))["received"] < received:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def binary_tensors(rows: int) -> tuple[bytes, str]:
    """Return a V2 request with its tensor as raw bytes, and the length of its JSON."""
    values = np.arange(rows * 2, dtype=np.float32)
    tensor = {"name": "x", "shape": [rows, 2], "datatype": "FP32", "parameters": {"binary_data_size": values.nbytes}}
    text = json.dumps({"inputs": [tensor]}).encode()
    return text + values.tobytes(), str(len(text))


def bodies() -> list[tuple[str, bytes, bytes, dict[str, str]]]:
    """Return protocol, request, response and headers of inferences that KServe's agent logs."""
    v2 = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}).encode()
    reply = json.dumps({"outputs": [{"name": "y", "shape": [1], "datatype": "FP32", "data": [3]}]}).encode()
    binary, length = binary_tensors(3)
    octets = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": length}
    return [
        ("v1", b'{"instances": [[1, 2], [3, 4]]}', b'{"predictions": [0, 1]}', {}),
        ("v2", v2, reply, {}),
        ("v2_binary", binary, reply, octets),
    ]


def poison(broker: Broker, topic: str) -> int:
    """Put records on the topic that are no events, or none of ours; return how many."""
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap})
    good = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"f"),
        ("ce_source", b"/s"),
        ("ce_type", b"io.inferwatch.finding.drift"),
    ]
    secret = [*good[:3], ("ce_time", b"yesterday"), ("authorization", b"hunter2"), ("ce_authorization", b"hunter2")]
    records: list[tuple[bytes | None, Sequence[tuple[str, bytes]]]] = [
        (b"not an event", []),
        (None, []),  # a tombstone
        (b"\xff\xfe", [("ce_specversion", b"\xff"), ("ce_id", b"\xc3\x28")]),
        (b"{}", secret),
        (b"{broken", [("content-type", b"application/cloudevents+json")]),
        (b"{}", good),
    ]
    for value, fields in records:
        producer.produce(topic, value, b"prod/income/predictor/default", headers=list(fields))
    producer.flush()
    return len(records)


@pytest.mark.parametrize("client", CLIENTS)
def test_what_kserve_sends_is_stored_and_joined(kafka_broker: Broker, tmp_path: Path, client: Client) -> None:
    cluster = Cluster(tmp_path, kafka_broker.bootstrap, f"agent-{uuid4()}", client)
    with cluster.running("ingest") as ingest:
        for number, (protocol, request, response, fields) in enumerate(bodies()):
            asked = headers(REQUEST_TYPE, protocol, number, **fields)
            answered = headers(RESPONSE_TYPE, protocol, number)
            for sent, body in ((asked, request), (answered, response), (asked, request)):  # one of them twice
                assert post(ingest.url, sent, body) == (200, b"")
        assert post(ingest.url, headers("some.other.type", "o", 0), b"{}")[0] == 200
        assert post(ingest.url, {"Ce-Specversion": "1.0"}, b"{}")[0] == 400
        found = ingest_ledger(ingest)
        assert (found["stored"], found["ignored"], sum(found["malformed"].values())) == (9, {"some.other.type": 1}, 1)
        assert len(cluster.letters()) == 1
        bad = poison(kafka_broker, cluster.topic)
        assert post(ingest.url, headers(REQUEST_TYPE, "last", 9), b"{}") == (200, b"")
    with cluster.running("store") as store:  # reads from the beginning
        found = until(store, 10 + bad)
        assert (found["stored"], found["duplicate"]) == (7, 3)
        assert found["ignored"] == {"io.inferwatch.finding.drift": 1}
        assert sum(found["malformed"].values()) == bad - 1
        items = {item["id"]: item for item in store.all("/api/payloads?model=prod/income")}
        assert {name: items[name]["protocol"] for name in items} == {
            "v1": "v1",
            "v2": "v2",
            "v2_binary": "v2_binary",
            "last": "unknown",
        }
        assert all(items[name]["outcome"] == "paired" for name, *_ in bodies())
        assert [items[name]["rows"] for name in ("v1", "v2", "v2_binary")] == [2, 1, 3]
        detail = store.get(f"/api/payloads/{items['v2_binary']['key']}")
        assert detail["decoded"]["rows"][2][:2] == [4, 5]
        assert 'inferwatch_events_received_total{outcome="duplicate",transport="kafka"' in store.text("/metrics")
        lag = 'inferwatch_consumer_lag_records{group="of-'
        eventually("it is told how far it is behind", lambda: lag in store.text("/metrics"))
    assert len(cluster.letters()) == 1 + bad - 1
    assert "hunter2" not in (cluster.data / "dead-letter.jsonl").read_text()
    poison(kafka_broker, cluster.topic)
    with cluster.running("store") as store:  # what was read is not read again before what came since
        found = until(store, 10 + 2 * bad)
        assert (found["stored"], found["duplicate"], sum(found["malformed"].values())) == (7, 3, 2 * (bad - 1))


def test_a_sidecar_writes_to_the_topic_that_store_reads(kafka_broker: Broker, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, kafka_broker.bootstrap, f"sidecar-{uuid4()}")

    async def serve() -> None:
        sinks = [f"kafka://{kafka_broker.bootstrap}/{cluster.topic}"]
        options = ("--spool", str(tmp_path / "spool"), "--inference-service", "income", "--namespace", "prod")
        async with AsyncExitStack() as stack:
            _, upstream = await stack.enter_async_context(server(echo))
            it = await stack.enter_async_context(proxy(tmp_path, upstream, sinks, *options))
            assert all(await asyncio.gather(*(ask(it.port, number) for number in range(50))))
            assert (await it.settled(100))["captured"] == 100

    asyncio.run(serve())
    with cluster.running("store") as store:
        assert until(store, 100)["stored"] == 100
        items = store.all("/api/payloads?model=prod/income")
        assert [item["outcome"] for item in items] == ["paired"] * 50


@pytest.mark.parametrize("client", CLIENTS)
def test_both_ends_wait_for_a_broker_that_comes_later(tmp_path: Path, client: Client) -> None:
    port = free_port()
    cluster = Cluster(tmp_path, f"127.0.0.1:{port}", "late", client)
    with (
        cluster.running("ingest", until="/healthz") as ingest,
        cluster.running("store", until="/healthz") as store,
    ):
        for it, name in ((ingest, "brokers"), (store, "topic")):
            status, body = it.status("/readyz")
            assert (status, name in json.loads(body)["error"]) == (503, True)
        status, body = post(ingest.url, headers(REQUEST_TYPE, "early", 0), b"{}")
        assert (status, f":{port}" in json.loads(body)["error"] or "answered" in body.decode()) == (503, True)
        assert ingest_ledger(ingest)["refused"] == {"unavailable": 1}
        assert ingest.status("/api/ledger")[0] == 200
        assert store.status("/api/models")[0] == 200
        for _ in broker_in(tmp_path / "broker", port=port):
            ingest.await_status("/readyz", 200, cluster.log("ingest"), RECOVERY_S)
            assert post(ingest.url, headers(REQUEST_TYPE, "late", 0), b"{}") == (200, b"")
            store.await_status("/readyz", 200, cluster.log("store"), RECOVERY_S)
            until(store, 1)


@pytest.mark.parametrize("client", CLIENTS)
def test_secrets_in_files_are_read_again_after_a_refusal(guarded: Guarded, tmp_path: Path, client: Client) -> None:
    options = guarded.options("SASL_SSL") | {"sasl.password": {"file": "password"}}
    password = tmp_path / "password"
    password.write_text("wr0ng\n")
    cluster = Cluster(tmp_path, guarded.listeners["SASL_SSL"], f"secret-{client}", client, options)
    with (
        cluster.running("ingest", until="/healthz") as ingest,
        cluster.running("store", until="/healthz") as store,
    ):
        for it, command, said in ((ingest, "ingest", "events are refused"), (store, "store", "the topic is not read")):
            log = cluster.log(command)
            eventually("the refusal is told", lambda log=log, said=said: said in log.read_text())
            assert it.status("/readyz")[0] == 503
        password.write_text(f"{WORD}\n")
        ingest.await_status("/readyz", 200, cluster.log("ingest"), RECOVERY_S)
        assert post(ingest.url, headers(REQUEST_TYPE, "a", 0), b"{}") == (200, b"")
        until(store, 1)
        store.await_status("/readyz", 200, cluster.log("store"), RECOVERY_S)
    logs = cluster.log("ingest").read_text() + cluster.log("store").read_text()
    assert "wr0ng" not in logs
    assert WORD not in logs
