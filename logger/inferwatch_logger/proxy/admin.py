"""What the sidecar says of itself, on a port of its own: `/metrics`, `/healthz`, `/readyz`, `/api/ledger`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from inferwatch._version import __version__
from inferwatch.delivery.delivery import Delivery
from inferwatch_logger.proxy.relay import Relay

Scope = MutableMapping[str, Any]
MoreMetrics = Callable[[], Iterable[Metric]]
_Answer = tuple[int, bytes, str]

_JSON = "application/json"


class Admin:
    """An ASGI application. `ready` asks the model server; `more` gives metrics beside the relay's and delivery's."""

    def __init__(
        self, relay: Relay, delivery: Delivery, ready: Callable[[], Awaitable[bool]], model: Model, *more: MoreMetrics
    ) -> None:
        self._relay = relay
        self._delivery = delivery
        self._ready = ready
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Snapshot(relay, delivery, model, more))

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


@dataclass(frozen=True, slots=True)
class Model:
    """Whose metrics these are; `name` is empty where every request names its model."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class _Snapshot(Collector):
    relay: Relay
    delivery: Delivery
    model: Model
    more: Sequence[MoreMetrics]

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        build = GaugeMetricFamily("inferwatch_build_info", "The running version.", labels=("version", "component"))
        build.add_metric((__version__, "proxy"), 1)
        yield build
        yield from self._accounts()
        yield from self._relayed()
        for metrics in self.more:
            yield from metrics()

    def _accounts(self) -> Iterator[Metric]:
        whose = ("model_namespace", "model_name", "sink")
        prefix = "inferwatch_logger"
        captured = CounterMetricFamily(f"{prefix}_captured", "Events to be delivered to a sink.", labels=whose)
        delivered = CounterMetricFamily(f"{prefix}_delivered", "Events that a sink took.", labels=whose)
        dropped = CounterMetricFamily(
            f"{prefix}_dropped", "Events that a sink will never have, by reason.", labels=(*whose, "reason")
        )
        spooled = GaugeMetricFamily(f"{prefix}_spooled_events", "Events that wait for a sink.", labels=("sink",))
        in_flight = GaugeMetricFamily(
            f"{prefix}_in_flight_events", "Events sent to a sink and not acknowledged.", labels=("sink",)
        )
        for sink, account in self.delivery.accounts().items():
            labels = (self.model.namespace, self.model.name, sink)
            captured.add_metric(labels, account.captured)
            delivered.add_metric(labels, account.delivered)
            for reason, count in account.dropped.items():
                dropped.add_metric((*labels, reason), count)
            spooled.add_metric((sink,), account.queued)
            in_flight.add_metric((sink,), account.in_flight)
        yield from (captured, delivered, dropped, spooled, in_flight)

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
            f"{prefix}_errors", "Steps of capture that failed; the request was served.", value=self.relay.guarded.errors
        )
        yield CounterMetricFamily(
            f"{prefix}_upstream_failures",
            "Connections to the model server that could not be made.",
            value=self.relay.pool.failures,
        )
        yield GaugeMetricFamily(f"{prefix}_clients", "Connections of clients.", value=len(self.relay.clients))


def _json(status: int, fields: dict[str, Any]) -> _Answer:
    return status, orjson.dumps(fields), _JSON
