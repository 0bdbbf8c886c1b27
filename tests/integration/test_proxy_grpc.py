"""gRPC calls of KServe's model server through `inferwatch proxy`: what the client gets is the same, and is captured."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inferwatch.events import REQUEST_TYPE, CloudEvent, Role
from inferwatch.wire.decode import decode
from inferwatch_cli.demo.processes import answering, free_port, running
from tests.integration.test_proxy import KSERVE, proxy, server, taken
from tests.memory import anonymous_bytes

pytestmark = pytest.mark.integration

CALLS = Path(__file__).with_name("grpc_calls.py")
RPCS = 100 + 6 + 2


@pytest.fixture(scope="module")
def grpc_port(model_server_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    http, grpc = free_port(), free_port()
    log = tmp_path_factory.mktemp("kserve") / "log"
    options = ["--http_port", str(http), "--grpc_port", str(grpc)]
    with running([model_server_python, KSERVE, "", *options], log) as process:
        asyncio.run(answering(f"http://127.0.0.1:{http}/v2/health/ready", process, log))
        yield grpc


async def called(python: Path, port: int) -> dict[str, Any]:
    """Return what clients of the port get."""
    process = await asyncio.create_subprocess_exec(python, CALLS, str(port), stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    found: dict[str, Any] = json.loads(out)
    return found


def by_id(events: list[CloudEvent]) -> dict[str, list[CloudEvent]]:
    """Return the events of each id, requests first; the same calls were made twice."""
    found: dict[str, list[CloudEvent]] = {}
    for event in sorted(events, key=lambda event: event.type):
        found.setdefault(event.id, []).append(event)
    return found


def outcome(event: CloudEvent) -> tuple[str, str]:
    return event.extensions["grpcstatus"], event.extensions["statuscode"]


def numbers(event: CloudEvent, role: Role) -> list[float]:
    rows = decode(event.data, role).rows
    assert rows is not None
    return [value for column in rows.columns for value in column.values.tolist()]


def test_calls_are_the_same_and_are_captured(grpc_port: int, model_server_python: Path, tmp_path: Path) -> None:
    async def test() -> tuple[dict[str, Any], dict[str, Any], list[CloudEvent], dict[str, Any]]:
        async with server(taken) as (sink, port):
            options = ("--inference-service", "doubler", "--metadata-headers", "X-Tenant")
            async with proxy(tmp_path, grpc_port, [f"http://127.0.0.1:{port}/"], *options) as it:
                ports = (grpc_port, it.port)
                direct, relayed = await asyncio.gather(*(called(model_server_python, port) for port in ports))
                resident = anonymous_bytes(it.process.pid)
                assert await called(model_server_python, it.port) == relayed
                assert anonymous_bytes(it.process.pid) - resident < 8 * 2**20  # where 4 MB go each way
                # Two calls were ended by their client, one of them perhaps by the server at the same moment.
                ledger = await it.settled(2 * (2 * RPCS - 2))
                assert await it.ended() == 0
            return direct, relayed, sink.events(), ledger

    direct, relayed, found, ledger = asyncio.run(test())
    for name, outcome_of in direct.items():
        assert relayed[name] == outcome_of, name
    assert (ledger["captured"], ledger["unlogged"]) == (len(found), {})
    assert direct["plain"]["outputs"] == [[2, 7.0, [2.0, 5.0]]]
    assert [direct[name]["code"] for name in ("unknown", "late")] == ["NOT_FOUND", "DEADLINE_EXCEEDED"]
    events = by_id(found)
    for name in ("plain", "compressed", "large"):
        request, _, response, _ = events[name]
        assert outcome(response) == ("OK", "200")
        assert request.content_type == response.content_type == "application/grpc"
        assert request.extensions["path"] == "/inference.GRPCInferenceService/ModelInfer"
        assert request.extensions["metadata"] == '{"X-Tenant":["a"]}'
        assert (request.truncated, response.truncated) == (name == "large",) * 2
    assert numbers(events["plain"][0], Role.REQUEST) == [1.0, 2.5]
    assert numbers(events["plain"][2], Role.RESPONSE) == [2.0, 5.0]
    assert events["compressed"][0].data[0] == 1
    assert numbers(events["compressed"][0], Role.REQUEST) == [3.0] * 1000
    assert (outcome(events["unknown"][2]), events["unknown"][2].data) == (("NOT_FOUND", "404"), b"")
    assert {event.type for event in events["cancelled"]} == {REQUEST_TYPE}
    assert {outcome(event)[0] for event in events["late"][2:]} <= {"DEADLINE_EXCEEDED"}
    for number in range(100):
        assert numbers(events[f"m{number}"][2], Role.RESPONSE) == [2.0 * number]
