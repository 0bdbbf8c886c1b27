"""Composes everything in one process: ingest, payload log, detectors, API, console, explainers and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inferwatch.clock import NS_PER_S
from inferwatch.errors import ConfigError, Fault
from inferwatch.payload_log.index import recently_open
from inferwatch_cli.checks import Checked
from inferwatch_cli.explained import explained_models, explanations
from inferwatch_cli.kept_log import KeptLog, open_log
from inferwatch_cli.parts import Service, behind_ingest
from inferwatch_cli.telling import to_journal
from inferwatch_detectors.worker import Worker
from inferwatch_logger.modelmesh import MOST_OPEN, WINDOW_S, ModelMesh


@contextmanager
def open_up(configuration: Checked, data: Path | None = None) -> Iterator[Service]:
    """Yield everything in one process, at work until the end. Raises `PayloadLogError` where the log cannot be used."""
    settings = configuration.settings
    if settings.transport.kind != "embedded":
        raise ConfigError([Fault("transport.kind", "'kafka': `up` is one process and needs embedded")])
    with open_log(configuration, data) as log:
        worker = Worker(
            configuration.models, log.flow, log.history, false_discovery_rate=configuration.false_discovery_rate
        )
        with log.followed(worker, component="up", transport="http") as app:
            record = to_journal(log.journal, settings.payload_log.redaction())
            app.include_router(explanations(settings, explained_models(configuration.models), log.registry, record))
            application = behind_ingest(configuration, app, log.journal, log.dead_letter, _modelmesh(log))
            yield Service(application, f"payload log in {log.directory}")


def _modelmesh(log: KeptLog) -> ModelMesh:
    """Return what takes ModelMesh's payloads, told of the halves that were open when the process before ended."""
    mesh = ModelMesh(log.clock, log.configuration.settings.ingest.modelmesh)
    with log.state.read() as connection:
        mesh.restore(recently_open(connection, log.clock.now_ns() - round(WINDOW_S * NS_PER_S), MOST_OPEN))
    return mesh
