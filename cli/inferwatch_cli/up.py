"""Composes everything in one process: ingest, payload log, detectors, API, console, explainers and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from inferwatch.clock import NS_PER_S
from inferwatch.errors import ConfigError, Fault
from inferwatch.payload_log.index import recently_open
from inferwatch_cli.checks import Checked
from inferwatch_cli.kept_log import KeptLog, open_log
from inferwatch_cli.parts import Service, behind_ingest
from inferwatch_detectors.worker import MonitoredModel, Worker
from inferwatch_explainers.artifact import Artifact
from inferwatch_explainers.service import ExplainedModel, ExplainerSpec, explain_router
from inferwatch_logger.modelmesh import MOST_OPEN, WINDOW_S, ModelMesh


@contextmanager
def open_up(configuration: Checked, data: Path | None = None) -> Iterator[Service]:
    """Yield everything in one process, at work until the end. Raises `PayloadLogError` where the log cannot be used."""
    settings = configuration.settings
    if settings.transport.kind != "embedded":
        raise ConfigError([Fault("transport.kind", "'kafka': `up` is one process and needs embedded")])
    with open_log(configuration, data) as log:
        worker = Worker(configuration.models, log.flow, log.history)
        with log.followed(worker, component="up", transport="http") as app:
            explained = explained_models(configuration.models)
            queue, origin = settings.explain.max_queue, settings.auth.origin()
            app.include_router(explain_router(explained, registry=log.registry, max_queue=queue, origin=origin))
            application = behind_ingest(configuration, app, log.journal, log.dead_letter, _modelmesh(log))
            yield Service(application, f"payload log in {log.directory}")


def _modelmesh(log: KeptLog) -> ModelMesh:
    """Return what takes ModelMesh's payloads, told of the halves that were open when the process before ended."""
    mesh = ModelMesh(log.clock, log.configuration.settings.ingest.modelmesh)
    with log.state.read() as connection:
        mesh.restore(recently_open(connection, log.clock.now_ns() - round(WINDOW_S * NS_PER_S), MOST_OPEN))
    return mesh


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
