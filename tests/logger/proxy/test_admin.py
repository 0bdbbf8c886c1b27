"""What the sidecar says of itself."""

from __future__ import annotations

import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from inferwatch.delivery.delivery import Delivery
from inferwatch.delivery.memory import MemorySink
from inferwatch.errors import DeliveryError
from inferwatch_logger.proxy.admin import Admin
from tests.logger.proxy.messages import OK, POST
from tests.logger.proxy.relayed import answering, relayed, run


async def get(admin: Admin, path: str, method: str = "GET") -> tuple[int, str]:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await admin({"type": "http", "method": method, "path": path, "headers": []}, None, send)
    return sent[0]["status"], sent[1]["body"].decode()


def test_the_ledger_and_the_metrics_agree() -> None:
    async def ready() -> bool:
        return True

    async def test() -> None:
        refusing = MemorySink(lambda _: DeliveryError("no", retryable=False))
        delivery = Delivery([MemorySink(), refusing])
        async with relayed(answering(OK), emit=delivery.emit) as it:
            await it.ask(POST)
            await it.ask(b"PRI * HTTP/2.0\r\n\r\n" + POST)
            await it.settled()
            await delivery.aclose()
            admin = Admin(it.relay, delivery, ready)
            ledger = json.loads((await get(admin, "/api/ledger"))[1])
            assert ledger["capture"] == {
                "captured": 4,
                "delivered": 2,
                "spooled": 0,
                "in_flight": 0,
                "dropped": {"refused": 2},
                "unlogged": {"h2c": 1},
            }
            assert list(ledger["sinks"]) == ["MemorySink", "MemorySink#2"]
            _, text = await get(admin, "/metrics")
            found = {
                (sample.name, sample.labels.get("sink") or sample.labels.get("reason")): sample
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
            refused = found["inferwatch_logger_dropped_total", "MemorySink#2"]
            assert (refused.value, refused.labels["reason"]) == (2, "refused")
            delivered = found["inferwatch_logger_delivered_total", "MemorySink"]
            assert (delivered.value, delivered.labels["model_name"]) == (2, "income")
            assert found["inferwatch_logger_unlogged_total", "h2c"].value == 1
            assert found["inferwatch_logger_requests_total", None].value == 1

    run(test)


def test_health_readiness_and_what_is_not_there() -> None:
    ready = [True]

    async def asked() -> bool:
        return ready[0]

    async def test() -> None:
        delivery = Delivery([MemorySink()])
        async with relayed(answering(OK)) as it:
            admin = Admin(it.relay, delivery, asked)
            assert (await get(admin, "/readyz"))[0] == 200
            ready[0] = False
            status, text = await get(admin, "/readyz")
            assert (status, json.loads(text)) == (503, {"error": f"the upstream {it.relay.pool.address} is not ready"})
            assert (await get(admin, "/healthz"))[0] == 200
            assert (await get(admin, "/healthz", "HEAD")) == (200, "")
            assert (await get(admin, "/nothing"))[0] == 404
            assert (await get(admin, "/healthz", "POST"))[0] == 405
            it.relay.draining = True
            assert (await get(admin, "/readyz"))[0] == 503

    run(test)
