"""The API: models, findings, payloads and the ledger as JSON, health, and the console beside them.

Whoever asks is answered from what was accepted before: a request first waits, for at most a second, until everything
in the journal is derived. Everything that touches SQLite runs in the thread pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Protocol, TypeVar

import orjson
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Response

from inferwatch import __version__
from inferwatch.events import Service
from inferwatch.payload_log.ledger import Ledger
from inferwatch_logger.console import Console, console_router
from inferwatch_logger.monitor import Monitor
from inferwatch_logger.payload_view import payload_item
from inferwatch_logger.queries import (
    FindingQuery,
    NoQuery,
    PageQuery,
    PayloadQuery,
    number_of,
    service_of,
    write_cursor,
)
from inferwatch_logger.refusals import refusal, refuse_in_sentences
from inferwatch_logger.replies import (
    CaptureLedger,
    Fault,
    FindingItem,
    LedgerReply,
    ModelDetail,
    ModelItem,
    Page,
    PayloadDetail,
    PayloadItem,
)

CATCH_UP_S = 1.0
"""A request waits at most so long for what was accepted before it to be derived."""


class Part(Protocol):
    """A part of a service that may not be ready."""

    @property
    def fault(self) -> str | None:
        """Why it cannot go on at present; None while it does."""
        ...


class Written(Part, Protocol):
    """The journal, as far as reading from it in step needs."""

    def end(self) -> int:
        """Return the last offset committed."""
        ...


class Taking(Part, Protocol):
    """Where events are taken to, as far as its account goes."""

    def ledger(self) -> Ledger:
        """Return the account of every event received so far."""
        ...


class Following(Part, Protocol):
    """The pipeline that follows it."""

    def wait_for(self, offset: int, timeout_s: float) -> bool:
        """Return whether everything up to the offset is derived, waiting for it at most so long."""
        ...


def api_app(
    monitor: Monitor,
    journal: Written,
    pipeline: Following,
    further: Mapping[str, Part] | None = None,
    beside: Mapping[str, Part] | None = None,
) -> FastAPI:
    """Return the application: `/api`, health, the console, `/openapi.json` and `/docs`. Further routers may join.

    `further`: parts that have to be ready beside the log and the pipeline, by name; `beside`: those that events are
    taken and followed without.
    """
    app = FastAPI(
        title="inferwatch",
        version=__version__,
        redirect_slashes=False,
        docs_url=None,  # these load their scripts from elsewhere; the console has a page of its own
        redoc_url=None,
        description="What served models are asked and answer, and what detectors say about it.",
    )

    def catch_up() -> None:
        pipeline.wait_for(journal.end(), CATCH_UP_S)

    refuse_in_sentences(app)
    app.include_router(api_router(monitor), dependencies=[Depends(catch_up)])
    app.include_router(ledger_router(monitor.ledger), dependencies=[Depends(catch_up)])
    app.include_router(health_router({"payload log": journal, "pipeline": pipeline, **(further or {})}, beside or {}))
    app.include_router(console_router(Console(monitor)), dependencies=[Depends(catch_up)])
    return app


def api_router(monitor: Monitor) -> APIRouter:
    """Return the routes under `/api`."""
    router = APIRouter(prefix="/api", responses={"4XX": {"model": Fault}, 503: {"model": Fault}})
    unknown: dict[int | str, dict[str, Any]] = {404: {"model": Fault}}

    @router.get("/models", response_model=Page[ModelItem], tags=["models"])
    def models(query: Annotated[PageQuery, Query()]) -> Response:
        """Every configured model, and every service that sent events, by name."""
        after = _read(service_of, "models", query)
        items = [item for item in monitor.fleet() if after is None or (item.namespace, item.name) > after]
        more = len(items) > query.limit
        items = items[: query.limit]
        following = write_cursor("models", Service(items[-1].namespace, items[-1].name)) if more else None
        return _json([item.model_dump() for item in items], following)

    @router.get("/models/{namespace}/{name:path}", response_model=ModelDetail, responses=unknown, tags=["models"])
    def model(namespace: str, name: str, query: Annotated[NoQuery, Query()]) -> Response:  # noqa: ARG001
        """One model: its features, reference and detectors, and what a person should know about it."""
        detail = monitor.model(Service(namespace, name))
        if detail is None:
            return refusal(404, f"no model {namespace}/{name} is configured, and none of that name sent an event")
        return _reply(detail.model_dump())

    @router.get("/findings", response_model=Page[FindingItem], tags=["findings"])
    def findings(query: Annotated[FindingQuery, Query()]) -> Response:
        """The verdicts of detectors, newest first, fired or not."""
        before = _read(number_of, "findings", query)
        found = monitor.finding_documents(query.wanted(), before=before, limit=query.limit + 1)
        return _numbered("findings", [(number, orjson.Fragment(it)) for number, it in found], query.limit)

    @router.get("/payloads", response_model=Page[PayloadItem], tags=["payloads"])
    def payloads(query: Annotated[PayloadQuery, Query()]) -> Response:
        """What models were asked and answered, newest first."""
        before = _read(number_of, "payloads", query)
        found = monitor.payloads(query.wanted(), before=before, limit=query.limit + 1)
        return _numbered("payloads", [(number, payload_item(it).model_dump()) for number, it in found], query.limit)

    @router.get("/payloads/{key}", response_model=PayloadDetail, responses=unknown, tags=["payloads"])
    def payload(key: str, query: Annotated[NoQuery, Query()]) -> Response:  # noqa: ARG001
        """One payload: its events as they came, its rows, and the findings and explanations about it."""
        view = monitor.payload(key)
        if view is None:
            return refusal(404, f"there is no payload {key[:64]!r}; a key is the `key` of /api/payloads, not an id")
        return Response(view.as_json(), media_type="application/json")

    return router


def intake_app(intake: Taking, name: str) -> FastAPI:
    """Return the application of a service that only takes events to somewhere, which has a name: ledger and health."""
    app = FastAPI(title="inferwatch ingest", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False)
    refuse_in_sentences(app)
    app.include_router(ledger_router(intake.ledger))
    app.include_router(health_router({name: intake}))

    @app.get("/", include_in_schema=False)
    def root() -> Response:
        """Say what this is."""
        return _reply({"service": "inferwatch ingest", "version": __version__})

    return app


def ledger_router(account: Callable[[], Ledger]) -> APIRouter:
    """Return `/api/ledger`."""
    router = APIRouter(prefix="/api", responses={"4XX": {"model": Fault}, 503: {"model": Fault}})

    @router.get("/ledger", response_model=LedgerReply, tags=["ledger"])
    def ledger(query: Annotated[NoQuery, Query()]) -> Response:  # noqa: ARG001
        """What became of every event that was received."""
        return _reply({"ingest": account().as_dict(), "capture": CaptureLedger().model_dump()})

    return router


def health_router(parts: Mapping[str, Part], beside: Mapping[str, Part] = MappingProxyType({})) -> APIRouter:
    """Return `/healthz`, which answers while the process does, and `/readyz`, which says what is missing.

    What is missing `beside` is told, and changes nothing about being ready.
    """
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """200 while the process answers: a full disk, for one, is not mended by a restart."""
        return {"status": "ok"}

    @router.get("/readyz", responses={503: {"model": Fault}})
    async def readyz() -> Response:
        """200 where events are taken and followed, else 503 with what is missing."""
        if missing := _faults(parts):
            return refusal(503, "; ".join([*missing, *_faults(beside)]))
        warnings = _faults(beside)
        return _reply({"status": "ready"} | ({"warnings": warnings} if warnings else {}))

    return router


def _faults(parts: Mapping[str, Part]) -> list[str]:
    return [f"{name}: {part.fault}" for name, part in parts.items() if part.fault is not None]


Position = TypeVar("Position")


def _read(parse: Callable[[str, str | None], Position], kind: str, query: PageQuery) -> Position:
    try:
        return parse(kind, query.cursor)
    except ValueError as error:
        raise HTTPException(400, str(error)) from error


def _numbered(kind: str, found: Sequence[tuple[int, Mapping[str, Any] | orjson.Fragment]], limit: int) -> Response:
    """Answer with the first `limit` of the numbered items; one more tells that the list goes on."""
    following = write_cursor(kind, found[limit - 1][0]) if len(found) > limit else None
    return _json([item for _, item in found[:limit]], following)


def _json(items: Sequence[Mapping[str, Any] | orjson.Fragment], following: str | None) -> Response:
    return _reply({"items": list(items), "next": following})


def _reply(content: Mapping[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")
