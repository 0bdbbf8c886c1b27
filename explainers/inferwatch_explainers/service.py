"""The `:explain` service: explanations of a model's predictions over HTTP, as routes for any FastAPI application."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry
from starlette.requests import ClientDisconnect

from inferwatch.errors import InvalidOption, InvalidRows, MissingExtra, PredictorError, PredictorTimeout
from inferwatch.events import Service
from inferwatch.explanation import Explanation, Summary
from inferwatch.origin import Origin
from inferwatch.pictures import Format, Picture, check_plot
from inferwatch_explainers.adapters.child_process import ChildProcess
from inferwatch_explainers.cache import ExplanationCache, key_of
from inferwatch_explainers.metrics import ExplainMetrics
from inferwatch_explainers.recording import Record, as_event
from inferwatch_explainers.registry import (
    check_method,
)
from inferwatch_explainers.reply_shapes import check_shape, reply
from inferwatch_explainers.request import DEADLINE_HEADER, ExplainRequest, read_request
from inferwatch_explainers.served import ExplainedModel, ExplainerSpec, Served, explain_request
from inferwatch_explainers.turnstile import TurnedAway, Turnstile

logger = logging.getLogger(__name__)

AT_WORK = 2
"""Explanations that are worked on at a time; most of their time they wait for the predictor."""

_FORWARDED = ("authorization", "traceparent", "tracestate", "x-request-id")
_FORWARDED_PREFIX = "x-b3-"
_UNKNOWN = "unknown"


class _Refusal(Exception):
    def __init__(self, status: int, outcome: str, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.outcome = outcome
        self.headers = headers


def explain_router(
    models: Sequence[ExplainedModel],
    *,
    registry: CollectorRegistry,
    max_queue: int = 64,
    max_instances: int = 100,
    max_body_bytes: int = 33_554_432,
    origin: Origin | None = None,
    legacy: ChildProcess | None = None,
    record: Record | None = None,
    cache: ExplanationCache | None = None,
) -> APIRouter:
    """Return the routes `POST /v1/models/{name}:explain` and `POST /v2/models/{name}/explain` for these models, and
    `GET /v2/models/{name}`, which says how their predictors are asked.

    Calls to predictors are marked by `origin`, `legacy` runs the algorithms of old libraries, `record` takes the event
    of each answer, and `cache` keeps answers for the same question again. Connections to predictors open with the
    application and close with it. Raises `InvalidOption` for a method that does not exist and `InvalidReference` for a
    reference that cannot be a background.
    """
    served = [Served(model, origin, legacy) for model in models if model.explainers]
    metrics = ExplainMetrics(registry)
    service = _Service(served, metrics, max_queue, max_instances, max_body_bytes, legacy, record, cache)
    router = APIRouter(tags=["explanations"], lifespan=service.lifespan)
    for path in ("/v1/models/{name}:explain", "/v2/models/{name}/explain"):
        router.post(path, responses=_REPLIES, openapi_extra=_BODY, operation_id=f"explain{path[:3]}")(service.explain)
    router.get("/v2/models/{name}", responses={status: _REPLIES[status] for status in (404, 409)})(service.metadata)
    return router


_PICTURES: Mapping[Format, str] = {"png": "image/png", "svg": "image/svg+xml"}

_REASONS = {
    400: "The rows or an option are wrong.",
    404: "No such model.",
    406: "A picture is asked for, and what draws it is not installed.",
    409: "The name is configured in several namespaces.",
    413: "Too many instances, or too large a body.",
    429: "Too many requests wait.",
    500: "What computes the explanation failed; the log has the traceback.",
    502: "The predictor is down, or answers what cannot be used.",
    504: "The predictor was too slow for even a coarse answer.",
}

_REPLIES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One explanation an instance, in order; a picture of them where `Accept` asks for one.",
        "content": {media_type: {} for media_type in ("application/json", *_PICTURES.values())},
    },
    **{
        status: {"description": reason, "content": {"application/json": {"example": {"error": "one sentence"}}}}
        for status, reason in _REASONS.items()
    },
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"example": {"instances": [[39, "Private"]], "parameters": {}}}},
    }
}


class _Service:
    def __init__(
        self,
        served: Sequence[Served],
        metrics: ExplainMetrics,
        max_queue: int,
        max_instances: int,
        max_body_bytes: int,
        legacy: ChildProcess | None,
        record: Record | None,
        cache: ExplanationCache | None,
    ) -> None:
        self._served = served
        self._legacy = legacy
        self._record = record
        self._cache = cache
        if cache is not None:
            metrics.cache_bytes.set_function(lambda: cache.size)
        self._metrics = metrics
        self._max_instances = max_instances
        self._max_body_bytes = max_body_bytes
        self._turnstile = Turnstile(AT_WORK, max_queue, inflight=metrics.inflight, queue_depth=metrics.queue_depth)

    @asynccontextmanager
    async def lifespan(self, _: object) -> AsyncIterator[None]:
        predictors = [predictor for served in self._served for predictor in served.predictors.values()]
        for predictor in predictors:
            await predictor.__aenter__()
        try:
            yield
        finally:
            for predictor in predictors:
                await predictor.__aexit__()
            if self._legacy is not None:
                self._legacy.close()

    async def metadata(self, name: str, namespace: str | None = None) -> Response:
        """Answer which explainers a model has, and of each the protocol it asks the predictor in and the `ways` found.

        A way is how questions of 10,000 rows and more go, of one form of request, with what each way took.
        """
        try:
            return _json(self._find(name, namespace).metadata())
        except _Refusal as refusal:
            return _json({"error": str(refusal)}, refusal.status)

    async def explain(
        self, name: str, request: Request, namespace: str | None = None, plot: str | None = None
    ) -> Response:
        """Explain every instance of a V1 or V2 predict body.

        `parameters` may hold `method`, `target`, `deadline_s`, `samples`, `immutable`, `options`, `reply` and `plot`;
        the header `X-Inferwatch-Deadline` and `?plot=` win.
        """
        started = time.monotonic()
        labels = {"model_namespace": _UNKNOWN, "model_name": _UNKNOWN, "method": _UNKNOWN}
        try:
            wanted = _picture_format(request.headers.get("accept", ""))
            served = self._find(name, namespace)
            labels |= {"model_namespace": served.model.namespace, "model_name": name}
            asked = await self._asked(request, served)
            check_method(asked.options.method or served.model.explainers[0].method)
            spec = served.spec(asked.options.method)
            labels["method"] = spec.method
            check_shape(asked.options.reply, spec.method)
            chosen = _plot(asked.options.plot if plot is None else plot, wanted)
            explanation, age = await self._answer(served, spec, asked, request, started)
            picture = None if wanted is None else _picture(explanation, asked, chosen)
        except (_Refusal, InvalidRows, InvalidOption, PredictorError, MissingExtra) as fault:
            return self._refused(fault, labels)
        except Exception as fault:
            logger.exception("explaining %s by %s failed", name, labels["method"])
            return self._refused(_failure(fault, labels["method"]), labels)
        self._count(explanation, labels, time.monotonic() - started)
        with self._metrics.writing_seconds.labels(name).time():
            if self._record is not None:
                of, schema = Service(served.model.namespace, name), served.model.reference.schema
                self._record(as_event(of, schema, asked, explanation, request.headers, cached=age is not None))
            if wanted is not None and picture is not None:
                drawn = await asyncio.to_thread(picture.draw, wanted)
                return Response(drawn, 200, _aged(age), media_type=_PICTURES[wanted])
            said = reply(asked.options.reply, explanation, asked.values, asked.schema, name)
            if age is not None and asked.options.reply == "native":
                said["cached"] = True
            return _json(said, 200, _aged(age))

    def _refused(self, fault: Exception, labels: Mapping[str, str]) -> Response:
        refusal = fault if isinstance(fault, _Refusal) else _refusal(fault)
        self._metrics.explanations.labels(**labels, outcome=refusal.outcome).inc()
        logger.debug("explanation of %s refused: %s", labels["model_name"], refusal.outcome)
        return _json({"error": str(refusal)}, refusal.status, refusal.headers)

    def _count(self, explanation: Explanation, labels: Mapping[str, str], seconds: float) -> None:
        outcome = "deadline" if explanation.deadline_reached else "ok"
        self._metrics.seconds.labels(labels["model_name"]).observe(seconds)
        self._metrics.explanations.labels(**labels, outcome=outcome).inc()
        self._metrics.predictor_calls.labels(labels["method"]).observe(explanation.predictor_calls)

    async def _asked(self, request: Request, served: Served) -> ExplainRequest:
        """Return what is to be explained. Raises `_Refusal` for too much of it, and what `read_request` raises."""
        body = await self._body(request)
        model = served.model
        with self._metrics.reading_seconds.labels(model.name).time():
            deadline = request.headers.get(DEADLINE_HEADER)
            asked = read_request(body, model.reference.schema, deadline, method=model.explainers[0].method)
        count = len(asked.values)
        if count > self._max_instances:
            raise _Refusal(413, "too_large", f"{count} instances are too many; at most {self._max_instances} are taken")
        return asked

    def _find(self, name: str, namespace: str | None) -> Served:
        named = [served for served in self._served if served.model.name == name]
        found = [served for served in named if namespace in (None, served.model.namespace)]
        if not found:
            where = f" in namespace {namespace[:64]!r}" if namespace is not None and named else ""
            raise _Refusal(404, "unknown_model", f"no model named {name[:64]!r}{where} has an explainer")
        if len(found) > 1:
            places = " and ".join(served.model.namespace for served in found)
            raise _Refusal(409, "ambiguous_model", f"{name} is configured in {places}; say which with ?namespace=")
        return found[0]

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > self._max_body_bytes:
                    raise _Refusal(413, "too_large", f"the body is larger than {self._max_body_bytes} bytes")
        except ClientDisconnect:
            raise _Refusal(400, "disconnected", "the body ended before its end") from None
        return bytes(body)

    async def _answer(
        self, served: Served, spec: ExplainerSpec, asked: ExplainRequest, request: Request, started: float
    ) -> tuple[Explanation, float | None]:
        """Return the explanation, and how many seconds ago it was given where it was given before."""
        headers = _forwarded(request)
        cache, about = self._cache, (served.model.namespace, served.model.name, spec.method)
        if cache is None:
            return await self._explanation(served, spec, asked, headers, started), None
        if "no-cache" not in request.headers.get("cache-control", ""):
            found = cache.get(key_of(asked, headers, *about, served.version(spec)))
            self._metrics.cache_lookups.labels(*about[:2], "miss" if found is None else "hit").inc()
            if found is not None:
                explanation, age = found
                return replace(explanation, predictor_calls=0, predictor_rows=0, elapsed_s=0.0), age
        explanation = await self._explanation(served, spec, asked, headers, started)
        cache.put(key_of(asked, headers, *about, served.version(spec)), explanation)  # as answered by this version
        return explanation, None

    async def _explanation(
        self, served: Served, spec: ExplainerSpec, asked: ExplainRequest, headers: dict[str, str], started: float
    ) -> Explanation:
        ends = started + (asked.options.deadline_s or spec.deadline_s)
        try:
            async with self._turnstile.place(ends - time.monotonic()):
                return await asyncio.to_thread(explain_request, served, spec, asked, headers, ends)
        except TurnedAway:
            sentence = "too many explanations are under way; try again in a second"
            raise _Refusal(429, "busy", sentence, {"Retry-After": "1"}) from None


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def _aged(age: float | None) -> dict[str, str] | None:
    return None if age is None else {"Age": str(int(age))}


def _picture_format(accept: str) -> Format | None:
    """Return the picture that a client asks for by its type, None for JSON. Raises 406 where none can be drawn."""
    formats = [format_ for format_, media_type in _PICTURES.items() if media_type in accept]
    if not formats:
        return None
    if find_spec("matplotlib") is None:
        raise _Refusal(406, "invalid", str(MissingExtra("a picture", "plots")))
    return min(formats, key=lambda format_: accept.index(_PICTURES[format_]))


def _plot(name: str | None, format_: Format | None) -> str | None:
    if name is not None and format_ is None:
        kinds = " or ".join(_PICTURES.values())
        raise InvalidOption(f"plot is for a picture, which is asked for by `Accept: {kinds}`")
    return None if name is None else check_plot(name)


def _picture(explanation: Explanation, asked: ExplainRequest, plot: str | None) -> Picture:
    of_rows = not isinstance(explanation, Summary)
    return explanation.picture(asked.schema.decode(asked.values) if of_rows else None, plot=plot)


def _forwarded(request: Request) -> dict[str, str]:
    return {
        name: value
        for name, value in request.headers.items()
        if name in _FORWARDED or name.startswith(_FORWARDED_PREFIX)
    }


def _failure(fault: Exception, method: str) -> _Refusal:
    """What a library, or a user's own method, raised that nobody has foreseen."""
    first_line = next(iter(str(fault).splitlines()), "")[:200]
    return _Refusal(500, "failed", f"{method} failed with {type(fault).__name__}: {first_line}")


def _refusal(fault: Exception) -> _Refusal:
    if isinstance(fault, PredictorTimeout):
        return _Refusal(504, "timeout", str(fault))
    if isinstance(fault, PredictorError):
        return _Refusal(502, "predictor_error", str(fault))
    return _Refusal(400, "invalid", str(fault))
