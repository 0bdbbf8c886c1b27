"""What the sidecar says of itself, on a port of its own: `/metrics`, `/healthz`, `/readyz`, `/api/ledger`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from inferwatch._version import __version__
from inferwatch.delivery.delivery import Delivery
from inferwatch_logger.capture_metrics import register
from inferwatch_logger.proxy.relay import Relay

Scope = MutableMapping[str, Any]
_Answer = tuple[int, bytes, str]

_JSON = "application/json"


class Admin:
    """An ASGI application. `ready` asks the model server."""

    def __init__(self, relay: Relay, delivery: Delivery, ready: Callable[[], Awaitable[bool]]) -> None:
        self._relay = relay
        self._delivery = delivery
        self._ready = ready
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Snapshot(relay))
        register(self._registry, relay.recorder, delivery)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401, ARG002 - ASGI
        """Serve one request."""
        status, body, content_type = await self._answer(scope)
        headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope) -> _Answer:
        if scope["method"] not in ("GET", "HEAD"):
            return _json(405, {"error": f"{scope['method']} is not allowed; GET is"})
        match scope["path"]:
            case "/metrics":
                accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
                encode, content_type = choose_encoder(accept)
                return 200, encode(self._registry), content_type
            case "/healthz":
                return _json(200, {"status": "ok"})
            case "/readyz":
                return await self._readiness()
            case "/api/ledger":
                return _json(200, self.ledger())
            case path:
                return _json(404, {"error": f"no such path: {path[:200]}"})

    def ledger(self) -> dict[str, Any]:
        """Return the account of every event, of each sink too, and of the connections that were not captured."""
        accounts = self._delivery.accounts()
        return {
            "capture": {**self._delivery.account().as_dict(), "unlogged": dict(self._relay.unlogged)},
            "sinks": {name: account.as_dict() for name, account in accounts.items()},
        }

    async def _readiness(self) -> _Answer:
        if self._relay.draining:
            return _json(503, {"error": "the sidecar ends"})
        if not await self._ready():
            return _json(503, {"error": f"the upstream {self._relay.pool.address} is not ready"})
        return _json(200, {"status": "ready"})


@dataclass(frozen=True, slots=True, eq=False)
class _Snapshot(Collector):
    relay: Relay

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        build = GaugeMetricFamily("inferwatch_build_info", "The running version.", labels=("version", "component"))
        build.add_metric((__version__, "proxy"), 1)
        yield build
        yield from self._relayed()

    def _relayed(self) -> Iterator[Metric]:
        prefix = "inferwatch_logger"
        yield CounterMetricFamily(f"{prefix}_requests", "Requests that were relayed.", value=self.relay.requests)
        unlogged = CounterMetricFamily(
            f"{prefix}_unlogged", "Connections relayed as bytes and not captured, by reason.", labels=("reason",)
        )
        for reason in ("upgrade", "h2c", "unparsed"):
            unlogged.add_metric((reason,), self.relay.unlogged[reason])
        yield unlogged
        yield CounterMetricFamily(
            f"{prefix}_upstream_failures",
            "Connections to the model server that could not be made.",
            value=self.relay.pool.failures,
        )
        yield GaugeMetricFamily(f"{prefix}_clients", "Connections of clients.", value=len(self.relay.clients))


def _json(status: int, fields: dict[str, Any]) -> _Answer:
    return status, orjson.dumps(fields), _JSON
