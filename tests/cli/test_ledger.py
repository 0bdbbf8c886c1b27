"""The command `ledger`: of queue files and of a running service, as text and as JSON."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from inferwatch.delivery.spool import open_spool
from inferwatch.events import CloudEvent
from inferwatch_cli.main import main

Runner = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runner:
    def runner(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["inferwatch", "ledger", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return runner


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    queue = open_spool(tmp_path, 1 << 17, ["http://a", "kafka://b/c"])
    for number in range(5):
        queue.put(CloudEvent(str(number), "/s", "t"), 0.0)
    first = queue.positions[0]
    first.settle(first.take(2, 10**6))
    first.settle(first.take(1, 10**6), "refused")
    queue.close()
    return tmp_path


def test_queue_files_as_json(run: Runner, spool: Path) -> None:
    code, output, errors = run("--spool", spool, "--json")
    assert (code, errors) == (0, "")
    assert json.loads(output) == {
        "capture": {"captured": 10, "delivered": 2, "spooled": 7, "in_flight": 0, "dropped": {"refused": 1}},
        "sinks": {
            "http://a": {"captured": 5, "delivered": 2, "spooled": 2, "in_flight": 0, "dropped": {"refused": 1}},
            "kafka://b/c": {"captured": 5, "delivered": 0, "spooled": 5, "in_flight": 0, "dropped": {}},
        },
    }


def test_queue_files_as_text(run: Runner, spool: Path) -> None:
    assert run("--spool", spool)[1].splitlines() == [
        "capture: captured 10 = delivered 2 + spooled 7 + in_flight 0 + dropped 1 (refused 1)",
        "  http://a: captured 5 = delivered 2 + spooled 2 + in_flight 0 + dropped 1 (refused 1)",
        "  kafka://b/c: captured 5 = delivered 0 + spooled 5 + in_flight 0 + dropped 0",
    ]


@contextmanager
def service(status: int, body: bytes, asked: list[tuple[str, str | None]]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["authorization"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


LEDGER = {
    "ingest": {
        "received": 4,
        "stored": 2,
        "duplicate": 0,
        "ignored": {"x": 1},
        "malformed": {"bad_time": 1},
        "refused": {},
        "clamped": 1,
    },
    "capture": {"captured": 0, "delivered": 0, "spooled": 0, "in_flight": 0, "dropped": {}},
}


def test_a_running_service(run: Runner, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    asked: list[tuple[str, str | None]] = []
    with service(200, json.dumps(LEDGER).encode(), asked) as url:
        assert json.loads(run("--url", url, "--json", "--token-file", token)[1]) == LEDGER
        assert run("--url", f"{url}/")[1].splitlines()[0] == (
            "ingest: received 4 = stored 2 + duplicate 0 + ignored 1 (x 1) + malformed 1 (bad_time 1) + refused 0"
        )
    assert asked == [("/api/ledger", "Bearer s3cret"), ("/api/ledger", None)]


@pytest.mark.parametrize(("status", "body"), [(401, b""), (200, b"<html>"), (200, b"[]")])
def test_an_answer_that_is_no_ledger(run: Runner, status: int, body: bytes) -> None:
    with service(status, body, []) as url:
        code, output, errors = run("--url", url)
    assert (code, output, len(errors.splitlines())) == (1, "", 1)
    assert f"{url}/api/ledger" in errors


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--url", "http://127.0.0.1:1"], 1, "no ledger from"),
        (["--url", "127.0.0.1:80"], 2, "is no URL of a service"),
        (["--url", "http://a", "--spool", "b"], 2, "reads files"),
        (["--spool", "nowhere"], 1, "no queue file in nowhere"),
        (["--token-file", "nowhere"], 1, "nowhere"),
    ],
)
def test_faults_are_one_line(run: Runner, arguments: list[str], code: int, words: str) -> None:
    found, output, errors = run(*arguments)
    assert (found, output, len(errors.splitlines())) == (code, "", 1)
    assert words in errors
