"""A token opens what reads and explains; events are taken at their secret address alone."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from inferwatch_logger.access import Application, addressed, guarded

TOKEN = "s3cret-token"  # noqa: S105 - made up
PREFIX = "s3gment"


def app(name: str) -> Application:
    """Return an application that answers 200 with its name and the path that it sees."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": f"{name} {scope['path']}".encode()})

    return answer


def ask(
    application: Application, address: str, method: str = "GET", body: bytes = b"", **headers: str
) -> tuple[int, str, dict[bytes, bytes]]:
    path, _, query = address.partition("?")
    sent: list[Any] = []
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": fields}

    async def run() -> None:
        await application(scope, receive, send)

    asyncio.run(run())
    return sent[0]["status"], sent[1].get("body", b"").decode(), dict(sent[0]["headers"])


GUARDED = [
    "/",
    "/api/models",
    "/api/payloads/x",
    "/models/default/income",
    "/docs",
    "/openapi.json",
    "/healthz/",
    "/none",
]
EXPLAIN = ["/v1/models/income:explain", "/v2/models/income/explain"]


@pytest.mark.parametrize("path", GUARDED)
def test_the_token_is_taken_in_either_header(path: str) -> None:
    guard = guarded(app("api"), TOKEN)
    assert ask(guard, path, authorization=f"Bearer {TOKEN}")[:2] == (200, f"api {path}")
    assert ask(guard, path, authorization=f"bearer  {TOKEN}")[0] == 200
    assert ask(guard, path, x_inferwatch_token=TOKEN)[0] == 200


@pytest.mark.parametrize("path", [*GUARDED, *EXPLAIN])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": TOKEN},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer "},
        {"authorization": f"Bearer {TOKEN}x"},
        {"x_inferwatch_token": TOKEN.upper()},
        {"x_inferwatch_token": ""},
        {"x_inferwatch_token": "\xff"},
    ],
)
def test_without_the_token_it_is_401_in_one_sentence(path: str, headers: dict[str, Any]) -> None:
    status, body, fields = ask(guarded(app("api"), TOKEN), path, **headers)
    assert status == 401
    assert orjson.loads(body)["error"].startswith("a token is needed here")
    assert TOKEN not in body
    assert fields[b"www-authenticate"] == b"Bearer"


@pytest.mark.parametrize("path", EXPLAIN)
def test_authorization_is_the_predictors_where_it_is_explained(path: str) -> None:
    guard = guarded(app("explain"), TOKEN)
    assert ask(guard, path, "POST", authorization=f"Bearer {TOKEN}")[0] == 401
    assert ask(guard, path, "POST", x_inferwatch_token=TOKEN, authorization="Bearer of-the-model")[0] == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_and_scrapes_need_no_token(path: str) -> None:
    assert ask(guarded(app("api"), TOKEN), path)[0] == 200


def test_without_a_token_everything_is_open() -> None:
    assert ask(guarded(app("api"), None), "/api/models")[0] == 200


def door(prefix: str | None) -> Application:
    def handles(scope: Any) -> bool:
        path: str = scope["path"]
        return path.startswith("/events") or (path == "/" and scope["method"] == "POST")

    return addressed(app("ingest"), handles, app("rest"), prefix)


@pytest.mark.parametrize("path", ["/", "/events", "/events/a"])
def test_events_are_taken_at_their_address_alone(path: str) -> None:
    assert ask(door(None), path, "POST")[1] == f"ingest {path}"
    assert ask(door(PREFIX), f"/{PREFIX}{path}", "POST")[:2] == (200, f"ingest {path}")
    assert ask(door(PREFIX), path, "POST")[0] == 404
    assert ask(door(PREFIX), f"/{PREFIX}x{path}", "POST")[1].startswith("rest")
    assert ask(door(PREFIX), f"/{PREFIX}/{PREFIX}{path}", "POST")[1].startswith("rest")


def test_the_address_may_end_without_a_slash() -> None:
    assert ask(door(PREFIX), f"/{PREFIX}", "POST")[1] == "ingest /"


@pytest.mark.parametrize("path", ["/", "/api/models", f"/{PREFIX}/api/models"])
def test_the_rest_is_where_it_was(path: str) -> None:
    assert ask(door(PREFIX), path)[1] == f"rest {path}"
