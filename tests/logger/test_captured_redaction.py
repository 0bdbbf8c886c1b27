"""Redaction in the capture middleware: what is redacted reaches no queue and no sink."""

from __future__ import annotations

import asyncio
import hmac
from pathlib import Path
from typing import Any

from inferwatch_logger import CaptureMiddleware
from tests.logger.asgi import call
from tests.logger.captured import one_call


def test_what_is_redacted_never_reaches_the_queue_file(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k")
    rules: list[Any] = [
        {"path": "$.instances[*].ssn", "action": "hash", "key_file": str(key)},
        {"header": "x-user", "action": "mask"},
        "$.instances[*].name",
        "headers.traceparent",
    ]
    body = b'{"instances":[{"ssn":"123-45-6789","name":"Jane Roe","age":1.50}]}'
    spool = tmp_path / "spool"

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == body
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def test() -> None:
        middleware = CaptureMiddleware(
            app,
            sink="http://127.0.0.1:9",
            name="m",
            spool=spool,
            queue_bytes=65_536,
            redact=rules,
            metadata_headers=["x-user"],
        )
        headers = [("x-user", "jane@example.org"), ("traceparent", "00-abc")]
        assert (await call(middleware, headers=headers, parts=[body]))[1]["body"] == body
        await middleware.aclose(0.01)
        assert middleware.errors == 0

    asyncio.run(test())
    written = b"".join(path.read_bytes() for path in spool.glob("*.queue"))
    digest = hmac.new(b"k", b"123-45-6789", "sha256").hexdigest().encode()
    assert written.count(b'{"instances":[{"ssn":"' + digest + b'","name":null,"age":1.50}]}') == 2
    assert b"****.org" in written
    for secret in (b"123-45-6789", b"Jane Roe", b"jane@example", b"00-abc"):
        assert secret not in written


def test_a_cut_body_is_withheld_where_it_cannot_be_searched() -> None:
    options = {"redact": ["$.instances[*]"], "max_body_bytes": 12}
    request, response = one_call(options=options)
    assert (request.data, request.truncated, request.content_type) == (b"null", True, "application/json")
    assert (response.data, response.truncated) == (b"null", True)
