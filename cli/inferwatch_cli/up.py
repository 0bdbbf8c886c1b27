"""Composes the parts of one process: journal, pipeline with its detectors, API, console, explainers and metrics."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from inferwatch.clock import NS_PER_S, Clock, SystemClock, format_time
from inferwatch.exclusion import Exclusion
from inferwatch.metrics import FlowMetrics, ReferenceInfo, SnapshotCollector
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.payload_log.feature_names import keep_feature_names
from inferwatch.payload_log.index import recently_open
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.sealing import Sealer
from inferwatch.payload_log.segment import can_seal
from inferwatch.payload_log.state import State
from inferwatch.pipeline import Pipeline
from inferwatch.redaction import Redaction
from inferwatch.settings import IngestSettings, PayloadLogSettings
from inferwatch_cli.checks import Checked
from inferwatch_detectors.worker import MonitoredModel, Worker
from inferwatch_explainers.artifact import Artifact
from inferwatch_explainers.service import ExplainedModel, ExplainerSpec, explain_router
from inferwatch_logger.access import Application, addressed, guarded
from inferwatch_logger.api import api_app
from inferwatch_logger.ingest import Ingest
from inferwatch_logger.modelmesh import MOST_OPEN, WINDOW_S, ModelMesh
from inferwatch_logger.monitor import ConfiguredModel, Monitor
from inferwatch_logger.replies import ReferenceItem

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Up:
    """What is served, and where its payload log lies."""

    application: Application
    directory: Path


@contextmanager
def open_up(configuration: Checked, data: Path | None = None) -> Iterator[Up]:
    """Yield everything in one process, at work until the end. Raises `PayloadLogError` where the log cannot be used."""
    settings = configuration.settings
    clock = SystemClock()
    directory = data or settings.payload_log.path
    registry = CollectorRegistry()
    flow = FlowMetrics(registry, clock)
    worker = Worker(configuration.models, flow)
    with (
        Journal.open(
            directory,
            settings.payload_log.durability,
            max_inflight_bytes=settings.ingest.max_inflight_bytes,
            clock=clock,
        ) as journal,
        State.open(directory) as state,
    ):
        keep_feature_names(state, {model.service: model.reference.schema.names for model in configuration.models})
        timeout_s = settings.ingest.pair_timeout_s
        exclusion = Exclusion([rule.rule() for rule in settings.exclude], settings.auth.origin())
        pipeline = Pipeline(
            journal, state, worker, pair_timeout_s=timeout_s, clock=clock, watcher=flow, exclusion=exclusion
        )
        monitor = Monitor(journal, state, _configured(configuration.models), pair_timeout_s=timeout_s)
        registry.register(_snapshot(configuration.models, journal, state, worker))
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        app = api_app(monitor, journal, pipeline)
        explained = explained_models(configuration.models)
        app.include_router(
            explain_router(
                explained, registry=registry, max_queue=settings.explain.max_queue, origin=settings.auth.origin()
            )
        )
        _serve_metrics(app, registry)
        redaction = Redaction(settings.payload_log.redact)
        dead_letter = DeadLetter(directory, clock=clock, redaction=redaction)
        ingest = Ingest(
            journal,
            dead_letter,
            max_body_bytes=settings.ingest.max_body_bytes,
            redaction=redaction,
            modelmesh=_modelmesh(settings.ingest, state, clock),
            aliases=settings.ingest.type_aliases.aliases(),
        )
        pipeline.start()
        sealer = _sealer(settings.payload_log, journal, clock)
        try:
            prefix = settings.auth.ingest_path_prefix
            rest = guarded(app, configuration.bearer_token)
            yield Up(addressed(ingest, ingest.handles, rest, prefix and prefix.strip("/")), directory)
        finally:
            if sealer is not None:
                sealer.stop()
            pipeline.stop()


def _modelmesh(settings: IngestSettings, state: State, clock: Clock) -> ModelMesh:
    """Return what takes ModelMesh's payloads, told of the halves that were open when the process before ended."""
    mesh = ModelMesh(clock, settings.modelmesh)
    with state.read() as connection:
        mesh.restore(recently_open(connection, clock.now_ns() - round(WINDOW_S * NS_PER_S), MOST_OPEN))
    return mesh


def _sealer(settings: PayloadLogSettings, journal: Journal, clock: Clock) -> Sealer | None:
    """Return what seals the log, at work; None where what writes Parquet is not installed."""
    if not can_seal():
        logger.info("the payload log stays one database: sealing it into Parquet files needs inferwatch[store]")
        return None
    sealer = Sealer(
        journal,
        segment_bytes=settings.segment_bytes,
        segment_age_s=settings.segment_minutes * 60,
        retention_s=settings.retention_days and settings.retention_days * 86_400,
        clock=clock,
    )
    sealer.start()
    return sealer


def _serve_metrics(app: FastAPI, registry: CollectorRegistry) -> None:
    @app.get("/metrics", include_in_schema=False)
    def metrics(request: Request) -> Response:
        """Answer what Prometheus scrapes, as OpenMetrics where the client asks for it."""
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type})


def _snapshot(models: Sequence[MonitoredModel], journal: Journal, state: State, worker: Worker) -> SnapshotCollector:
    return SnapshotCollector(
        component="up",
        ledger=journal.ledger,
        store=lambda: (state.rows(), _size_bytes(journal.directory)),
        queue=lambda: (journal.waiting_bytes, journal.max_inflight_bytes),
        statuses=worker.statuses,
        references=[ReferenceInfo(model.service, model.reference.id, model.reference.created_ns) for model in models],
    )


def _size_bytes(directory: Path) -> int:
    sizes = []
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):  # a file that was sealed, replaced or removed meanwhile
            sizes.append(path.stat().st_size if path.is_file() else 0)
    return sum(sizes)


def _configured(models: Sequence[MonitoredModel]) -> list[ConfiguredModel]:
    return [
        ConfiguredModel(
            model.settings,
            model.reference.schema,
            ReferenceItem(
                id=model.reference.id,
                rows=model.reference.count,
                created=format_time(model.reference.created_ns),
                autocorrelation=model.reference.autocorrelation,
            ),
        )
        for model in models
    ]


def explained_models(models: Sequence[MonitoredModel]) -> list[ExplainedModel]:
    """Return the models that have explainers, artefacts read."""
    return [
        ExplainedModel(
            model.settings.namespace,
            model.settings.name,
            model.reference,
            [
                ExplainerSpec(
                    spec.method,
                    spec.predictor,
                    spec.protocol,
                    spec.deadline_s,
                    spec.samples,
                    Artifact(spec.artifact, model.reference.schema, trust_pickle=spec.trust_pickle)
                    if spec.artifact
                    else None,
                    spec.immutable,
                )
                for spec in model.settings.explainers
            ],
        )
        for model in models
        if model.settings.explainers
    ]
