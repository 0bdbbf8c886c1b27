"""What the services that are composed here have in common: metrics, the ingest, and who may ask."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from inferwatch.errors import ConfigError, Fault
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.protocols import Intake
from inferwatch.settings import KafkaTransport, Settings
from inferwatch_cli.checks import Checked
from inferwatch_logger.access import Application, addressed, guarded
from inferwatch_logger.ingest import Ingest
from inferwatch_logger.modelmesh import ModelMesh


@dataclass(frozen=True, slots=True)
class Service:
    """What is served, and what to say of it once it is."""

    application: Application
    what: str


def own_registry() -> CollectorRegistry:
    """Return a registry with what Prometheus wants to know of any process."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


def serve_metrics(app: FastAPI, registry: CollectorRegistry) -> None:
    """Add `/metrics`."""

    @app.get("/metrics", include_in_schema=False)
    def metrics(request: Request) -> Response:
        """Answer what Prometheus scrapes, as OpenMetrics where the client asks for it."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type})


def behind_ingest(
    configuration: Checked, app: FastAPI, intake: Intake, dead_letter: DeadLetter, modelmesh: ModelMesh
) -> Application:
    """Return the application with the ingest in front: events at their address, the token for everything else."""
    settings = configuration.settings
    ingest = Ingest(
        intake,
        dead_letter,
        max_body_bytes=settings.ingest.max_body_bytes,
        redaction=settings.payload_log.redaction(),
        modelmesh=modelmesh,
        aliases=settings.ingest.type_aliases.aliases(),
    )
    prefix = settings.auth.ingest_path_prefix
    return addressed(ingest, ingest.handles, guarded(app, configuration.bearer_token), prefix and prefix.strip("/"))


def kafka_of(settings: Settings, command: str) -> KafkaTransport:
    """Return the transport of a command that needs a topic. Raises `ConfigError`."""
    if not isinstance(settings.transport, KafkaTransport):
        raise ConfigError([Fault("transport.kind", f"{settings.transport.kind!r}: `{command}` needs kafka")])
    return settings.transport
