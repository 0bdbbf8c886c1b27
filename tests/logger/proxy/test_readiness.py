"""The readiness probe, against a real server."""

from __future__ import annotations

import asyncio
import json

import pytest

from inferwatch.errors import ConfigError
from inferwatch_logger.proxy.readiness import Readiness, readiness
from tests.logger.proxy.relayed import run
from tests.loopback import loopback_server


def test_probes_as_kserve_writes_them() -> None:
    assert readiness("m", 80) == readiness("m", 80, " ") == Readiness("m", 80)
    tcp = {"tcpSocket": {"port": 8080, "host": "127.0.0.1"}, "timeoutSeconds": 3, "successThreshold": 1}
    assert readiness("m", 80, json.dumps(tcp)) == Readiness("127.0.0.1", 8080, timeout_s=3)
    get = {"httpGet": {"path": "v2/health/ready", "port": 8080, "httpHeaders": [{"name": "X", "value": "1"}]}}
    headers = (("Host", "m:8080"), ("X", "1"))
    assert readiness("m", 80, json.dumps(get)) == Readiness("m", 8080, "/v2/health/ready", headers)


@pytest.mark.parametrize("probe", ["{", "[]", '{"exec": {}}', '{"httpGet": {"port": "http"}}', '{"tcpSocket": 1}'])
def test_what_is_no_probe_of_ours(probe: str) -> None:
    with pytest.raises(ConfigError, match="SERVING_READINESS_PROBE"):
        readiness("m", 80, probe)


def test_it_asks_the_server() -> None:
    asked: list[bytes] = []
    status = [b"200"]

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n") if status else b""
        asked.append(head.partition(b"\r\n")[0])
        writer.write(b"HTTP/1.1 %b X\r\ncontent-length: 0\r\n\r\n" % b"".join(status))

    async def test() -> None:
        async with loopback_server(server) as at:
            probe = Readiness("127.0.0.1", at.port, "/ready", timeout_s=10)
            assert await probe()
            status[0] = b"503"
            assert not await probe()
            status[0] = b"what"
            assert not await probe()
        assert asked == [b"GET /ready HTTP/1.1"] * 3
        assert not await probe()
        assert not await Readiness("127.0.0.1", at.port)()

    run(test)
