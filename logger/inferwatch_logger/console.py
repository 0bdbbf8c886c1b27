"""The console: server-rendered pages that need no network and no script, and follow live with a small one.

`/fleet.html` has the fleet and the findings of its models as one self-contained text, to be kept as a file.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from inferwatch import __version__
from inferwatch.events import Service
from inferwatch.explained import sentence
from inferwatch.payload_log.findings import FindingFilter
from inferwatch.payload_log.index import PayloadFilter
from inferwatch.status import DetectorStatus
from inferwatch_logger.chart import EffectBar, ScoreChart, effect_bars, score_chart
from inferwatch_logger.docs_page import routes, shapes
from inferwatch_logger.monitor import Monitor
from inferwatch_logger.payload_view import payload_item
from inferwatch_logger.replies import ModelDetail, ModelItem, ModelState, PayloadItem

SECTIONS = 8
"""The fleet page shows the findings of so many models, worst first; the others' are on their own pages."""

FLEET_ROWS = 500
"""The fleet page lists so many models, worst first."""

WINDOWS = 80
"""A chart shows so many windows."""

FIRED_ROWS = 25
"""A model's section lists so many fired findings of each sort, newest first."""

DECODED_ROWS, DECODED_COLUMNS = 100, 60
"""A payload's page shows so much of its rows; the API gives all."""

_WORST_FIRST: Final[Sequence[ModelState]] = ("alarm", "stale", "waiting", "silent", "ok")
_ROW_KINDS = ("outlier", "adversarial")


@dataclass(frozen=True, slots=True)
class FeatureLine:
    """One feature of a drift finding, as a line of the table."""

    finding: Mapping[str, Any]
    unit: str
    bar: EffectBar | None


@dataclass(frozen=True, slots=True)
class WindowDetectorView:
    """A detector of windows: where it stands, its history, and its newest verdict feature by feature."""

    status: DetectorStatus
    chart: ScoreChart | None
    features: Sequence[FeatureLine]
    drifted: Sequence[str]
    why: str
    assumption: str


@dataclass(frozen=True, slots=True)
class ModelSection:
    """Everything the console says about one model."""

    detail: ModelDetail
    windows: Sequence[WindowDetectorView]
    fired: Sequence[Mapping[str, Any]]
    rows: Sequence[Mapping[str, Any]]

    @property
    def drifted(self) -> list[str]:
        """The features that are in alarm, each once."""
        return list(dict.fromkeys(name for view in self.windows for name in view.drifted))


class Console:
    """Renders pages. `live` pages follow by themselves and link to each other; others stand alone as a file."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def fleet_page(self, *, live: bool = True, sections: int = SECTIONS) -> str:
        """Return the page of all models, worst first, with the findings of the worst."""
        fleet = sorted(self._monitor.fleet(), key=_badness)
        shown = [self._section(Service(item.namespace, item.name)) for item in fleet[:sections]]
        return _render(
            "fleet.html",
            live=live,
            fleet=fleet[:FLEET_ROWS],
            left_out=len(fleet) - FLEET_ROWS,
            sections=[section for section in shown if section is not None],
            ledger=self._monitor.ledger(),
            states={state: sum(item.state == state for item in fleet) for state in _WORST_FIRST},
        )

    def model_page(self, service: Service) -> str | None:
        """Return the page of one model; None where there is none of that name."""
        section = self._section(service)
        return None if section is None else _render("model.html", live=True, section=section)

    def payload_page(self, key: str) -> str | None:
        """Return the page of one payload; None where there is none of that key."""
        view = self._monitor.payload(key)
        if view is None:
            return None
        flagged = {finding["row"]: finding for finding in view.findings if finding["row"] is not None}
        item, steps = payload_item(view.payload), [payload_item(step) for step in view.steps]
        return _render("payload.html", live=False, view=view, item=item, steps=steps, flagged=flagged)

    def search(self, payload_id: str) -> list[PayloadItem]:
        """Return the newest payloads of that event id, or the one of that key."""
        by_id = self._monitor.payloads(PayloadFilter(id=payload_id), limit=FIRED_ROWS)
        found = by_id or self._monitor.payloads(PayloadFilter(key=payload_id), limit=1)
        return [payload_item(payload) for _, payload in found]

    def search_page(self, payload_id: str, found: Sequence[PayloadItem]) -> str:
        """Return the page that lists what a search found."""
        return _render("search.html", live=False, payload_id=payload_id, found=found)

    def _section(self, service: Service) -> ModelSection | None:
        detail = self._monitor.model(service)
        if detail is None:
            return None
        statuses = self._monitor.statuses(service)
        kinds = dict.fromkeys(status.kind for status in statuses)
        fired = [finding for kind in kinds if kind not in _ROW_KINDS for finding in self._fired(service, kind)]
        rows = [finding for kind in kinds if kind in _ROW_KINDS for finding in self._fired(service, kind)]
        return ModelSection(
            detail,
            [self._window_detector(status) for status in statuses if status.kind not in _ROW_KINDS],
            sorted(fired, key=lambda finding: str(finding["time"]), reverse=True)[:FIRED_ROWS],
            sorted(rows, key=lambda finding: str(finding["time"]), reverse=True)[:FIRED_ROWS],
        )

    def _fired(self, service: Service, kind: str) -> list[dict[str, Any]]:
        wanted = FindingFilter(service=service, kind=kind, fired=True)
        return [finding for _, finding in self._monitor.findings(wanted, limit=FIRED_ROWS)]

    def _window_detector(self, status: DetectorStatus) -> WindowDetectorView:
        service = Service(status.namespace, status.name)
        wanted = FindingFilter(service=service, endpoint=status.endpoint, detector=status.detector)
        history = [
            finding
            for _, finding in self._monitor.findings(wanted, limit=WINDOWS)
            if finding["component"] == status.component
        ]
        newest = status.newest.as_dict() if status.newest else None
        features = newest["features"] if newest else []
        kinds = self._monitor.features(service)
        units = ["TV" if (kind := kinds.get(it["name"])) and kind.kind == "categorical" else "sd" for it in features]
        return WindowDetectorView(
            status,
            score_chart(history[::-1]),
            [FeatureLine(*line) for line in zip(features, units, effect_bars(features), strict=True)],
            [feature["name"] for feature in features if feature["fired"]] if status.state == "alarm" else [],
            newest["why"] if newest else "",
            newest["assumption"] if newest else "",
        )


def console_router(console: Console) -> APIRouter:
    """Return the console's routes.

    `GET /` is a line of JSON for whoever does not ask for HTML; `GET /fleet.html` is a page without
    links to a server.
    """
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def fleet(accept: Annotated[str, Header()] = "") -> Response:
        if "text/html" in accept:
            return _page(console.fleet_page())
        return Response(
            f'{{"service":"inferwatch","version":"{__version__}","api":"/docs"}}\n', media_type="application/json"
        )

    @router.get("/fleet.html")
    def kept() -> Response:
        return _page(console.fleet_page(live=False, sections=FLEET_ROWS))

    @router.get("/docs")
    def docs(request: Request) -> Response:
        document = request.app.openapi()
        return _page(_render("docs.html", live=False, routes=routes(document), shapes=shapes(document)))

    @router.get("/models/{namespace}/{name:path}")
    def model(namespace: str, name: str) -> Response:
        return _page(console.model_page(Service(namespace, name)), f"No model {namespace}/{name}")

    @router.get("/payloads/{key}")
    def payload(key: str) -> Response:
        return _page(console.payload_page(key), f"No payload {key}")

    @router.get("/search")
    def search(id: str = "") -> Response:  # noqa: A002 - the name of the field on the page
        found = console.search(id.strip())
        if len(found) == 1:
            return RedirectResponse(f"/payloads/{found[0].key}", 303)
        return _page(console.search_page(id.strip(), found), status=200 if found else 404)

    return router


def _page(text: str | None, missing: str = "", status: int = 200) -> Response:
    if text is None:
        text, status = _render("missing.html", live=False, missing=missing), 404
    return HTMLResponse(text, status, {"Content-Security-Policy": _policy(), "Cache-Control": "no-store"})


@cache
def _policy() -> str:
    """Nothing but our own styles and our one script, which is named by its hash: injected markup can load nothing."""
    digest = b64encode(sha256(_script().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("inferwatch_logger"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        cell=_cell,
        count=_count,
        figure=_figure,
        moment=_moment,
        segment=lambda text: quote(text, safe=""),
        sentence=sentence,
    )
    return environment


@cache
def _script() -> str:
    return _source("live.js")


def _source(name: str) -> str:
    environment = _environment()
    assert environment.loader is not None  # noqa: S101 - it was given one
    return environment.loader.get_source(environment, name)[0]


def _render(template: str, **values: Any) -> str:  # noqa: ANN401 - whatever the template shows
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            style=_source("console.css"),
            script=_script(),
            version=__version__,
            decoded_rows=DECODED_ROWS,
            decoded_columns=DECODED_COLUMNS,
        )
    )


def _badness(item: ModelItem) -> tuple[int, int, str, str]:
    return _WORST_FIRST.index(item.state), -item.alarms, item.namespace, item.name


def _segment(text: str) -> str:
    """A text as one segment of a path."""
    return quote(text, safe="")


def _count(number: int) -> str:
    return f"{number:,}"


def _figure(value: float | None) -> str:
    """Three digits that matter, short."""
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _moment(text: str | None) -> str:
    """An RFC 3339 time to the second."""
    return "–" if text is None else f"{text[:10]} {text[11:19]}"


def _cell(value: Any) -> str:  # noqa: ANN401 - any cell of any payload
    return "–" if value is None or value != value else str(value)
