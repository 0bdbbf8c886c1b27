"""Everything that API and console show, read from the payload log and the configuration.

Nothing here needs a server.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from inferwatch.clock import NS_PER_S, Clock, SystemClock, format_time
from inferwatch.events import Service
from inferwatch.payload_log.explanations import explanations_of, offsets_about
from inferwatch.payload_log.findings import FindingFilter, finding_documents, list_findings, list_statuses
from inferwatch.payload_log.index import PayloadFilter, list_payloads, steps_of
from inferwatch.payload_log.joiner import Payload
from inferwatch.payload_log.ledger import Ledger
from inferwatch.payload_log.views import (
    Derived,
    Events,
    ServiceCounts,
    Traffic,
    count_services,
    count_unpaired,
    detector_states,
    halves,
    learnt_reference,
    newest_offset,
    recent_traffic,
)
from inferwatch.reference import Reference
from inferwatch.rows import Schema
from inferwatch.settings import ModelSettings, configured_for
from inferwatch.status import DetectorStatus
from inferwatch_logger.payload_view import PayloadView, decoded_table, marks_of
from inferwatch_logger.replies import (
    DetectorItem,
    FeatureItem,
    ModelDetail,
    ModelItem,
    ModelState,
    ReferenceItem,
    Unpaired,
)

FEW_REQUESTS = 20
"""So many requests without any response are worth a note, before the first of them has waited too long."""

SILENT_AFTER_NS = 3_600 * NS_PER_S
"""A model that sent no event for an hour is silent."""

STALE_AFTER_NS = 86_400 * NS_PER_S
"""A detector whose last verdict lies a day behind the newest event is stale."""

_FINDINGS_OF_A_PAYLOAD = 1000
_EXPLANATIONS_OF_A_PAYLOAD = 100
_STEPS_OF_A_PAYLOAD = 100


@dataclass(frozen=True, slots=True)
class ConfiguredModel:
    """A model of the configuration, with what is known of its reference."""

    settings: ModelSettings
    schema: Schema | None = None
    reference: ReferenceItem | None = None

    @classmethod
    def of(cls, settings: ModelSettings, reference: Reference | None) -> ConfiguredModel:
        """Return the model with what is known of the reference of its inputs."""
        if reference is None:
            return cls(settings)
        item = ReferenceItem(
            id=reference.id,
            rows=reference.count,
            created=format_time(reference.created_ns),
            autocorrelation=reference.autocorrelation,
        )
        return cls(settings, reference.schema, item)

    @property
    def service(self) -> Service:
        """The served model."""
        return Service(self.settings.namespace, self.settings.name)

    def detectors(self) -> list[DetectorStatus]:
        """Return every configured detector as it stands before any traffic."""
        return [
            DetectorStatus(
                *self.service,
                component=settings.component,
                endpoint="default",
                detector=name,
                kind=settings.kind,
                method=settings.method,
                windowed=settings.kind != "outlier",
                window_rows=None if settings.kind == "outlier" else settings.window.full,
                needs_rows=None if settings.kind == "outlier" else settings.window.full,
            )
            for name, settings in self.settings.named_detectors()
        ]


class Monitor:
    """Reads models, findings and payloads. Thread-safe; raises `PayloadLogError`."""

    def __init__(
        self,
        events: Events,
        derived: Derived,
        models: Sequence[ConfiguredModel] = (),
        *,
        pair_timeout_s: float = 60.0,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._events = events
        self._derived = derived
        self._models = {model.service: model for model in models}
        self._pair_timeout_ns = round(pair_timeout_s * NS_PER_S)

    def fleet(self) -> list[ModelItem]:
        """Return every configured model, and every service that sent events, by name."""
        with self._derived.read() as connection:
            counts = {seen.service: seen for seen in count_services(connection)}
            kept = detector_states(connection)
            quiet = {service for service, seen in counts.items() if self._is_silent(connection, seen)}
        services = sorted({*(service for service in self._models if "*" not in service), *counts})
        rules = {of: model.detectors() if (model := configured_for(self._models, of)) else [] for of in services}
        watched = {
            (service, rule.component, rule.detector, rule.method) for service in services for rule in rules[service]
        }
        states: dict[Service, list[str]] = {}
        for detector in kept:
            if (detector.service, detector.component, detector.detector, detector.method) in watched:
                seen = counts.get(detector.service)
                state = _aged(detector.state, detector.last_run_ns, seen.last_event_ns if seen else 0)
                states.setdefault(detector.service, []).append(state)
        return [
            _item(service, counts.get(service), states.get(service, ()), silent=service in quiet)
            for service in services
        ]

    def model(self, service: Service) -> ModelDetail | None:
        """Return everything about one model; None where it is neither configured nor ever sent an event."""
        with self._derived.read() as connection:
            counts = next((seen for seen in count_services(connection) if seen.service == service), None)
            unpaired = count_unpaired(connection, service, self._pair_timeout_ns)
            traffic = recent_traffic(connection, service)
            silent = counts is not None and self._is_silent(connection, counts)
        model = self.configured(service)
        if model is None and counts is None:
            return None
        latest_ns = counts.last_event_ns if counts else 0
        statuses = [
            replace(status, state=_aged(status.state, status.last_run_ns, latest_ns))
            for status in self.statuses(service)
        ]
        item = _item(service, counts, [status.state for status in statuses], silent=silent)
        return ModelDetail(
            **item.model_dump(),
            features=_features(model.schema if model else None),
            reference=model.reference if model else None,
            detectors=[_detector(status) for status in statuses],
            unpaired=Unpaired(requests=unpaired[0], responses=unpaired[1]),
            notes=_notes(model is not None, traffic, unpaired, statuses),
        )

    def configured(self, service: Service) -> ConfiguredModel | None:
        """Return what is configured for a service, with the reference made of its traffic where there is one."""
        model = configured_for(self._models, service)
        if model is None:
            return None
        with self._derived.read() as connection:
            learnt = learnt_reference(connection, service)
        settings = model.settings.model_copy(update=service._asdict())
        if learnt is not None:
            return ConfiguredModel.of(settings, learnt)
        return replace(model, settings=settings)

    def _is_silent(self, connection: sqlite3.Connection, seen: ServiceCounts) -> bool:
        """Return whether a service sent nothing of late, by the times of its last event and of that one's arrival."""
        before_ns = self._clock.now_ns() - SILENT_AFTER_NS
        if seen.last_event_ns >= before_ns:
            return False
        offset = newest_offset(connection, seen.service)
        entry = None if offset is None else self._events.get(offset)
        return entry is None or entry.arrival_ns < before_ns

    def statuses(self, service: Service) -> list[DetectorStatus]:
        """Return where each configured detector of a model stands, stream by stream; those without traffic wait."""
        model = self.configured(service)
        rules = model.detectors() if model else []
        with self._derived.read() as connection:
            kept = list_statuses(connection, service)
        known = {(rule.detector, rule.component, rule.method) for rule in rules}
        running = [status for status in kept if (status.detector, status.component, status.method) in known]
        seen = {(status.detector, status.component) for status in running}
        return [*running, *(rule for rule in rules if (rule.detector, rule.component) not in seen)]

    def features(self, service: Service) -> Mapping[str, FeatureItem]:
        """Return the features of a model by name; empty where no reference is known."""
        model = self.configured(service)
        return {feature.name: feature for feature in _features(model.schema if model else None)}

    def findings(
        self, wanted: FindingFilter, *, before: int | None = None, limit: int = 100
    ) -> list[tuple[int, dict[str, Any]]]:
        """Return (number, finding as the public contract has it), newest first, below number `before`."""
        with self._derived.read() as connection:
            return list_findings(connection, wanted, before=before, limit=limit)

    def finding_documents(
        self, wanted: FindingFilter, *, before: int | None = None, limit: int = 100
    ) -> list[tuple[int, bytes]]:
        """Return what `findings` does, each as JSON: of a thousand findings, parsing is most of the time."""
        with self._derived.read() as connection:
            return finding_documents(connection, wanted, before=before, limit=limit)

    def payloads(
        self, wanted: PayloadFilter, *, before: int | None = None, limit: int = 100
    ) -> list[tuple[int, Payload]]:
        """Return (number, payload), newest first, below number `before`."""
        with self._derived.read() as connection:
            return list_payloads(connection, wanted, before=before, limit=limit)

    def payload(self, key: str) -> PayloadView | None:
        """Return one payload with its bodies, rows, findings and explanations; None where there is none of that key."""
        found = self.payloads(PayloadFilter(key=key), limit=1)
        if not found:
            return None
        payload = found[0][1]
        request, response = halves(self._events, payload)
        model = self.configured(payload.stream.service)
        findings = self.findings(FindingFilter(payload_key=key), limit=_FINDINGS_OF_A_PAYLOAD)
        with self._derived.read() as connection:
            steps = steps_of(connection, payload, self._pair_timeout_ns, _STEPS_OF_A_PAYLOAD)
        return PayloadView(
            payload,
            request,
            response,
            decoded_table(request, response, model.schema if model else None),
            [finding for _, finding in findings],
            steps,
            self._explanations(payload, marks_of(request, model.schema if model else None)),
        )

    def _explanations(self, payload: Payload, marks: Sequence[str]) -> list[dict[str, Any]]:
        request_ids = [] if payload.request_id is None else [payload.request_id]
        with self._derived.read() as connection:
            offsets = offsets_about(connection, payload.stream.service, [payload.id], request_ids, marks)
        return explanations_of(self._events, offsets, payload, marks, _EXPLANATIONS_OF_A_PAYLOAD)

    def ledger(self) -> Ledger:
        """Return the account of every event received."""
        return self._events.ledger()


def _item(service: Service, counts: ServiceCounts | None, states: Sequence[str], *, silent: bool) -> ModelItem:
    state = _state(states)
    return ModelItem(
        **service._asdict(),
        state="silent" if silent and state != "alarm" else state,
        events=counts.events if counts else 0,
        rows=counts.rows if counts else 0,
        last_event_time=format_time(counts.last_event_ns) if counts else None,
        alarms=sum(state == "alarm" for state in states),
    )


def _state(states: Sequence[str]) -> ModelState:
    if "alarm" in states:
        return "alarm"
    if "ok" in states:
        return "ok"
    return "stale" if "stale" in states else "waiting"


def _aged(state: str, last_run_ns: int | None, latest_ns: int) -> str:
    """Return the state of a detector, `stale` where events went on and it did not."""
    old = last_run_ns is not None and last_run_ns < latest_ns - STALE_AFTER_NS
    return "stale" if state == "ok" and old else state


def _features(schema: Schema | None) -> list[FeatureItem]:
    return [
        FeatureItem(name=feature.name, kind=feature.kind, categories=list(feature.categories))
        for feature in (schema.features if schema else ())
    ]


def _detector(status: DetectorStatus) -> DetectorItem:
    return DetectorItem(
        name=status.detector,
        kind=status.kind,
        method=status.method,
        endpoint=status.endpoint,
        component=status.component,
        state=_state([status.state]),
        windowed=status.windowed,
        window_rows=status.window_rows,
        needs_rows=status.needs_rows,
        last_run=None if status.last_run_ns is None else format_time(status.last_run_ns),
        score=status.score,
        threshold=status.threshold,
        windows=status.windows,
        scored=status.scored,
        flagged=status.flagged,
        failures=status.failures,
        late=status.late,
        unfit=status.unfit,
        notes=list(status.notes),
    )


def _notes(
    configured: bool, traffic: Traffic, unpaired: tuple[int, int], statuses: Sequence[DetectorStatus]
) -> list[str]:
    notes = [] if configured else ["not configured: its payloads are stored and nothing judges them"]
    alone_requests, alone_responses = unpaired
    if not traffic.responses and (alone_requests or traffic.requests >= FEW_REQUESTS):
        notes.append("no responses logged: batcher enabled, or the logger in mode request?")
    if not traffic.requests and (alone_responses or traffic.responses >= FEW_REQUESTS):
        notes.append("no requests logged: is the logger in mode response?")
    if traffic.faults:
        share = f"{traffic.faults} of the newest {traffic.payloads} payloads cannot be decoded"
        notes.append(f"{share}; the last: {traffic.fault}")
    return list(dict.fromkeys([*notes, *(note for status in statuses for note in status.notes)]))
