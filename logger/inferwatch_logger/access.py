"""Who may ask: a bearer token for everything that reads, labels or explains, and a secret address for the ingest.

KServe's agent can send no credentials, hence the address. Whoever probes or scrapes can mostly send none either, so
`/healthz`, `/readyz` and `/metrics`, which hold counts and no payload, stay open. Texts are compared in constant time.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from inferwatch_logger.refusals import refusal

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Any, Any], Awaitable[None]]

TOKEN_HEADER: Final = b"x-inferwatch-token"
OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/metrics"})

_SCHEME: Final = b"bearer "


def guarded(app: Application, token: str | None) -> Application:
    """Return the application behind a token, which comes as `Authorization: Bearer` or `X-Inferwatch-Token`; else 401.

    On the routes that explain only the latter counts: there `Authorization` is for the predictor. Without a token, the
    application itself.
    """
    if token is None:
        return app
    secret = token.encode()

    async def guard(scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or _is_known(scope, secret):
            await app(scope, receive, send)
            return
        header = "X-Inferwatch-Token" if _explains(scope["path"]) else "Authorization: Bearer, or X-Inferwatch-Token"
        sentence = f"a token is needed here: {header}"
        await refusal(401, sentence, {"WWW-Authenticate": "Bearer"})(scope, receive, send)

    return guard


def addressed(
    ingest: Application, handles: Callable[[Scope], bool], rest: Application, prefix: str | None
) -> Application:
    """Return the application that gives the ingest what it handles, and the rest what it does not.

    With a prefix, the ingest is at that first segment of the path alone; without it, 404.
    """

    async def gateway(scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        inner = scope if prefix is None or scope["type"] != "http" else _within(scope, prefix)
        if inner is not None and handles(inner):
            await ingest(inner, receive, send)
        elif prefix is not None and handles(scope):
            await refusal(404, f"no events are taken at {scope['path'][:64]!r}")(scope, receive, send)
        else:
            await rest(scope, receive, send)

    return gateway


def _is_known(scope: Scope, secret: bytes) -> bool:
    shown = _shown(scope["headers"], bearer=not _explains(scope["path"]))
    return any(hmac.compare_digest(token, secret) for token in shown)


def _shown(headers: Iterable[tuple[bytes, bytes]], *, bearer: bool) -> Iterable[bytes]:
    for name, value in headers:
        if name == TOKEN_HEADER:
            yield value.strip()
        elif bearer and name == b"authorization" and value[: len(_SCHEME)].lower() == _SCHEME:
            yield value[len(_SCHEME) :].strip()


def _explains(path: str) -> bool:
    return path.startswith(("/v1/models/", "/v2/models/")) and path.endswith((":explain", "/explain"))


def _within(scope: Scope, prefix: str) -> Scope | None:
    """Return the request as it is without the prefix; None where it does not have it."""
    first, _, below = scope["path"][1:].partition("/")
    return {**scope, "path": f"/{below}"} if hmac.compare_digest(first.encode(), prefix.encode()) else None
