"""Whether the model server is ready, asked as KServe's agent asks: by the probe in `SERVING_READINESS_PROBE`.

KServe gives its agent the predictor's readiness probe as JSON, in the form of a Kubernetes `Probe` with `httpGet` or
`tcpSocket`. Without one, a model server that accepts connections is ready.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from typing import Any

from inferwatch.errors import ConfigError, Fault

VARIABLE = "SERVING_READINESS_PROBE"


@dataclass(frozen=True, slots=True)
class Readiness:
    """A probe of an address. `target`: what to GET, None to connect only. `timeout_s` bounds one answer.

    `https` is spoken without verifying the server, as the kubelet does.
    """

    host: str
    port: int
    target: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    timeout_s: float = 1.0
    https: bool = False

    async def __call__(self) -> bool:
        """Return whether the probe succeeds: a connection, or a status from 200 to 399."""
        try:
            async with asyncio.timeout(self.timeout_s):
                reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self._context())
                try:
                    return self.target is None or await self._asked(reader, writer)
                finally:
                    writer.close()
        except (OSError, EOFError, ValueError, IndexError):  # an answer that is none, too
            return False

    def _context(self) -> ssl.SSLContext | None:
        if not self.https:
            return None
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    async def _asked(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = [f"GET {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers)]
        writer.write("\r\n".join([*lines, "User-Agent: kube-probe/inferwatch", "Connection: close", "", ""]).encode())
        status = (await reader.readline()).split(b" ", 2)[1]
        return 200 <= int(status) < 400


def readiness(host: str, port: int, probe: str = "") -> Readiness:
    """Return the probe that a JSON text describes, of the upstream where it names no other address.

    Raises `ConfigError` for a text that is no probe, or asks for what a sidecar cannot do (`exec`).
    """
    try:
        given = json.loads(probe) if probe.strip() else {}
        return _probe(given, host, port)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError([Fault(VARIABLE, f"is no probe with httpGet or tcpSocket: {error}")]) from error


def _probe(given: dict[str, Any], host: str, port: int) -> Readiness:
    if unknown := {"exec", "grpc"} & set(given):
        raise ValueError(f"{unknown.pop()} is not supported")
    timeout_s = float(given.get("timeoutSeconds") or 1)
    get = given.get("httpGet")
    place = get or given.get("tcpSocket") or {}
    host, port = place.get("host") or host, int(place.get("port") or port)
    if get is None:
        return Readiness(host, port, timeout_s=timeout_s)
    headers = tuple((str(header["name"]), str(header["value"])) for header in get.get("httpHeaders") or ())
    if not any(name.lower() == "host" for name, _ in headers):
        headers = (("Host", f"{host}:{port}"), *headers)
    path = str(get.get("path") or "/")
    https = str(get.get("scheme") or "HTTP").upper() == "HTTPS"
    return Readiness(host, port, path if path.startswith("/") else f"/{path}", headers, timeout_s, https)
