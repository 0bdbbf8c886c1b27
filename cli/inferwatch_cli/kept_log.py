"""A payload log that is kept, followed and shown: what `up` and `store` have in common."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from inferwatch.clock import Clock, SystemClock
from inferwatch.events import Stream
from inferwatch.exclusion import Exclusion
from inferwatch.metrics import FlowMetrics, ReferenceInfo, SnapshotCollector
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.payload_log.feature_names import keep_feature_names
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.logged_rows import logged_rows
from inferwatch.payload_log.sealing import Sealer
from inferwatch.payload_log.segment import can_seal
from inferwatch.payload_log.state import State
from inferwatch.pipeline import Judge, Pipeline
from inferwatch.rows import Rows
from inferwatch.settings import PayloadLogSettings
from inferwatch_cli.checks import Checked
from inferwatch_cli.parts import own_registry, serve_metrics
from inferwatch_detectors.worker import MonitoredModel
from inferwatch_logger.acceptance import acceptance_router
from inferwatch_logger.api import Part, api_app
from inferwatch_logger.monitor import ConfiguredModel, Monitor

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KeptLog:
    """The parts of an open payload log."""

    configuration: Checked
    directory: Path
    clock: Clock
    registry: CollectorRegistry
    flow: FlowMetrics
    journal: Journal
    state: State
    dead_letter: DeadLetter

    def history(self, stream: Stream, last: int) -> Sequence[Rows]:
        """Return the newest rows that a stream has logged."""
        with self.state.read() as connection:
            return logged_rows(self.journal, connection, stream.service, last=last, stream=stream)

    @contextmanager
    def followed(
        self,
        judge: Judge,
        *,
        component: str,
        transport: str,
        further: Mapping[str, Part] | None = None,
        beside: Mapping[str, Part] | None = None,
    ) -> Iterator[FastAPI]:
        """Yield the application that shows the log, which is joined, judged and sealed meanwhile.

        `component` and `transport`: what metrics call this process, and the way in which its events came. `further`:
        what else has to be ready; `beside`: what else may have something to tell.
        """
        settings = self.configuration.settings
        timeout_s = settings.ingest.pair_timeout_s
        exclusion = Exclusion([rule.rule() for rule in settings.exclude], settings.auth.origin())
        pipeline = Pipeline(
            self.journal,
            self.state,
            judge,
            pair_timeout_s=timeout_s,
            clock=self.clock,
            watcher=self.flow,
            exclusion=exclusion,
        )
        models = self.configuration.models
        monitor = Monitor(self.journal, self.state, _configured(models), pair_timeout_s=timeout_s)
        self.registry.register(self._snapshot(judge, component, transport))
        sealer = _sealer(settings.payload_log, self.journal, self.clock)
        sealing = {} if sealer is None else {"sealing": sealer}
        app = api_app(monitor, self.journal, pipeline, further, {**sealing, **(beside or {})})
        app.include_router(acceptance_router(monitor, self.journal, self.state, self.journal, self.clock))
        serve_metrics(app, self.registry)
        pipeline.start()
        if sealer is not None:
            sealer.start()
        try:
            yield app
        finally:
            if sealer is not None:
                sealer.stop()
            pipeline.stop()

    def _snapshot(self, judge: Judge, component: str, transport: str) -> SnapshotCollector:
        return SnapshotCollector(
            component=component,
            transport=transport,
            ledger=self.journal.ledger,
            store=lambda: (self.state.rows(), _size_bytes(self.directory)),
            statuses=judge.statuses,
            references=[
                ReferenceInfo(model.service, model.known.id, model.known.created_ns)
                for model in self.configuration.models
                if model.known is not None
            ],
            queue=lambda: (self.journal.waiting_bytes, self.journal.max_inflight_bytes),
        )


@contextmanager
def open_log(configuration: Checked, data: Path | None) -> Iterator[KeptLog]:
    """Yield the log of a directory, the configured one unless given. Raises `PayloadLogError`."""
    settings = configuration.settings
    directory = data or settings.payload_log.path
    clock, registry = SystemClock(), own_registry()
    with (
        Journal.open(
            directory,
            settings.payload_log.durability,
            max_inflight_bytes=settings.ingest.max_inflight_bytes,
            clock=clock,
        ) as journal,
        State.open(directory) as state,
    ):
        keep_feature_names(state, configuration.feature_names())
        dead_letter = DeadLetter(directory, clock=clock, redaction=settings.payload_log.redaction())
        flow = FlowMetrics(registry, clock)
        yield KeptLog(configuration, directory, clock, registry, flow, journal, state, dead_letter)


def _sealer(settings: PayloadLogSettings, journal: Journal, clock: Clock) -> Sealer | None:
    """Return what seals the log; None where what writes Parquet is not installed."""
    if not can_seal():
        logger.info("the payload log stays one database: sealing it into Parquet files needs inferwatch[store]")
        return None
    return Sealer(
        journal,
        segment_bytes=settings.segment_bytes,
        segment_age_s=settings.segment_minutes * 60,
        retention_s=settings.retention_days and settings.retention_days * 86_400,
        clock=clock,
    )


def _size_bytes(directory: Path) -> int:
    sizes = []
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):  # a file that was sealed, replaced or removed meanwhile
            sizes.append(path.stat().st_size if path.is_file() else 0)
    return sum(sizes)


def _configured(models: Sequence[MonitoredModel]) -> list[ConfiguredModel]:
    return [ConfiguredModel.of(model.settings, model.known) for model in models]
