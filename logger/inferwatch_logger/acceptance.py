"""The route that accepts logged traffic as a model's new reference."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol
from uuid import uuid4

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from inferwatch.clock import Clock
from inferwatch.errors import InvalidReference
from inferwatch.events import CloudEvent, Service
from inferwatch.payload_log.logged_rows import joined_rows, logged_rows
from inferwatch.payload_log.views import Derived, Events
from inferwatch.pipeline import REFERENCE_TYPE
from inferwatch.reference import Reference
from inferwatch.rows import Feature
from inferwatch_logger.monitor import ConfiguredModel, Monitor
from inferwatch_logger.queries import Instant
from inferwatch_logger.refusals import refusal
from inferwatch_logger.replies import Fault, ReferenceItem

MOST_ROWS = 1_000_000
"""A reference is made of so many rows of the time that is named, the newest ones."""


class Appending(Protocol):
    """The journal, as far as a decision is written to it."""

    def append(self, events: Sequence[CloudEvent], /) -> Future[int]:
        """Take events; done once they are committed."""
        ...


class Span(BaseModel):
    """Logged traffic, by event time."""

    model_config = ConfigDict(extra="forbid")
    since: Instant
    until: Instant


class Acceptance(BaseModel):
    """What is accepted as the reference."""

    model_config = ConfigDict(extra="forbid")
    logged: Span


def acceptance_router(
    monitor: Monitor, events: Events, derived: Derived, journal: Appending, clock: Clock
) -> APIRouter:
    """Return the route. The reference goes into the journal, so that what is judged stays a function of it."""
    router = APIRouter(prefix="/api", responses={"4XX": {"model": Fault}, 503: {"model": Fault}})

    @router.post("/models/{namespace}/{name:path}/reference", response_model=ReferenceItem, tags=["models"])
    def accept(namespace: str, name: str, wanted: Acceptance) -> object:
        """Compare the model's inputs with this traffic from now on, at every endpoint that was seen so far."""
        service = Service(namespace, name)
        model = monitor.configured(service)
        if model is None:
            return refusal(404, f"no model {service} is configured")
        with derived.read() as connection:
            since_ns, until_ns = wanted.logged.since, wanted.logged.until
            parts = logged_rows(events, connection, service, last=MOST_ROWS, since_ns=since_ns, until_ns=until_ns)
        try:
            rows = joined_rows(parts, "between since and until")
            reference = Reference.build(
                rows,
                features=[Feature(feature.name, feature.kind) for feature in _features(model)],
                sample_rows=model.settings.reference_rows,
                ordered=True,
                created_ns=clock.now_ns(),
            )
        except InvalidReference as fault:
            return refusal(400, str(fault))
        journal.append([_decision(service, reference)]).result()
        return ConfiguredModel.of(model.settings, reference).reference

    return router


def _features(model: ConfiguredModel) -> Sequence[Feature]:
    return model.schema.features if model.schema is not None else ()


def _decision(service: Service, reference: Reference) -> CloudEvent:
    extensions = {"namespace": service.namespace, "inferenceservicename": service.name}
    return CloudEvent(
        str(uuid4()), "inferwatch", REFERENCE_TYPE, reference.created_ns, None, extensions, reference.dump()
    )
