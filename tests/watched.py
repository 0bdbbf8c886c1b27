"""A running `inferwatch up` with the sample of deploy/, and traffic of every sort to send it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from urllib.error import HTTPError

import numpy as np
import yaml
from numpy.typing import NDArray

from inferwatch.events import EXPLAIN_ID_PREFIX, REQUEST_TYPE, RESPONSE_TYPE
from tests.components import ROOT
from tests.waiting import eventually

SAMPLE = ROOT / "deploy" / "samples"
MODEL = "default/sklearn-iris"
START_S = 120.0

Matrix = NDArray[np.float64]


class Watched(NamedTuple):
    """Where `up` serves, and its payload log."""

    url: str
    data: Path


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=60) as response:
        return json.loads(response.read())


def post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """Return the status, 4xx and 5xx too."""
    request = urllib.request.Request(url, body, {"content-type": "application/json"} | headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return int(response.status)
    except HTTPError as answer:
        return answer.code


@contextmanager
def process(command: Sequence[str | Path], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command with its output in a file, and stop it by SIGTERM at the end."""
    with log.open("wb") as output:
        started = subprocess.Popen(list(map(str, command)), stdout=output, stderr=subprocess.STDOUT)
        try:
            yield started
        finally:
            started.send_signal(signal.SIGTERM)
            try:
                started.wait(15)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


@contextmanager
def running_up(folder: Path) -> Iterator[Watched]:
    """Run `up` on a free port with the sample's configuration and a predictor that answers."""
    with iris_predictor() as predictor:
        configuration = yaml.safe_load((SAMPLE / "inferwatch.yaml").read_text(encoding="utf-8"))
        configuration["models"][0]["reference"] = str(SAMPLE / "reference.csv")
        configuration["models"][0]["explainers"][0]["predictor"] = predictor
        (folder / "inferwatch.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
        data, log = folder / "data", folder / "up.log"
        command: list[str | Path] = [
            Path(sys.executable).with_name("inferwatch"),
            "up",
            "--config",
            folder / "inferwatch.yaml",
        ]
        with process([*command, "--data", data, "--port", "0"], log) as started:

            def address() -> str | None:
                assert started.poll() is None, log.read_text()
                found = re.search(r"serves on (http://\S+:\d+)", log.read_text())
                return found[1] if found else None

            yield Watched(eventually("up serves", address), data)


@contextmanager
def iris_predictor() -> Iterator[str]:
    """Yield the address of a V1 model server whose prediction is the length of the petal."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            known = self.path == "/v1/models/sklearn-iris"
            self.answer(200 if known else 404, {"name": "sklearn-iris", "ready": True} if known else {"error": "no"})

        def do_POST(self) -> None:
            rows = json.loads(self.rfile.read(int(self.headers["content-length"])))["instances"]
            self.answer(200, {"predictions": [float(row[2]) for row in rows]})

        def answer(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def iris(count: int, seed: int) -> Matrix:
    """Return rows of the reference's population: its rows drawn again, shaken by a measurement error."""
    random = np.random.default_rng(seed)
    reference = np.loadtxt(SAMPLE / "reference.csv", delimiter=",", skiprows=1)
    drawn = reference[random.integers(0, len(reference), count)]
    return np.asarray(np.round(drawn + random.normal(0, 0.05, drawn.shape), 2))


def send(url: str, rows: Matrix, *, name: str, step: int = 10, answered: bool = True, event_id: str = "") -> None:
    """Send rows as pairs of events of KServe's agent, `step` rows each."""
    for number, start in enumerate(range(0, len(rows), step)):
        part, identity = rows[start : start + step], event_id or f"{name}-{number}"
        halves = [(REQUEST_TYPE, {"instances": part.tolist()}), (RESPONSE_TYPE, {"predictions": part[:, 2].tolist()})]
        for kind, body in halves[: 2 if answered else 1]:
            status = post(f"{url}/events", json.dumps(body).encode(), attributes(kind, identity))
            assert status // 100 == 2, status


def attributes(kind: str, identity: str) -> dict[str, str]:
    namespace, service = MODEL.split("/")
    return {
        "ce-specversion": "1.0",
        "ce-type": kind,
        "ce-id": identity,
        "ce-source": "http://localhost:9081/",
        "ce-time": datetime.now(UTC).isoformat(),
        "ce-inferenceservicename": service,
        "ce-namespace": namespace,
        "ce-component": "predictor",
        "ce-endpoint": "stable",
    }


def send_everything(url: str, part: str = "first") -> None:
    """Send what fills every metric: clean, shifted and odd rows; lonely, marked and broken events; an explanation."""
    send(url, iris(600, seed=1), name=f"{part}-clean")
    shifted = iris(300, seed=2)
    shifted[:, 2] += 2.5
    send(url, shifted, name=f"{part}-shifted")
    send(url, np.array([[64.0, 2.8, 4.1, 1.3]]), name=f"{part}-outlier")
    send(url, iris(1, seed=3), name=f"{part}-lonely", answered=False)
    send(url, iris(1, seed=4), name="", event_id=f"{EXPLAIN_ID_PREFIX}{part}")
    assert post(f"{url}/events", b"{}", {"ce-specversion": "1.0"}) == 400
    explain(url)


def explain(url: str) -> None:
    body = json.dumps({"instances": iris(1, seed=5).tolist()}).encode()
    assert post(f"{url}/v1/models/sklearn-iris:explain", body, {}) == 200


def judged(url: str, kinds: Iterable[str] = ("drift", "outlier")) -> bool:
    """Say whether a finding of each kind has fired."""
    return all(get(f"{url}/api/findings?fired=true&kind={kind}")["items"] for kind in kinds)
